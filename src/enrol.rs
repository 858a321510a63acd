//! Enrolment as the openITCOCKPIT Monitoring Agent does it: a server fetches a signing request for
//! this host's key, and posts the certificate that it signed, with its CA.
//!
//! The first time over plain HTTP, which is all that is served until there is a certificate; later,
//! to renew it, over mutual TLS. Whatever is posted, the files are either as they were or a
//! certificate that belongs to the key and chains to the CA beside it.

mod check;
mod key;
mod store;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use time::OffsetDateTime;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};

use self::{check::Checked, key::Requests};
use crate::{
    access::AddressRange,
    activity::Activity,
    blocking::{BlockingError, Threads},
    error::{Cause, EnrolError},
    peer::Peer,
    route::MAX_BODY,
    trigger::Trigger,
};

pub use self::key::KeyKind;

/// How long a request waits for those before it. An RSA-4096 key takes seconds to generate.
const TURN: Duration = Duration::from_secs(30);

/// The files of `autossl-…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `autossl-key-file`; made when it is missing.
    pub key: PathBuf,
    /// `autossl-csr-file`; a copy for people, written and never read.
    pub signing_request: PathBuf,
    /// `autossl-crt-file`.
    pub certificate: PathBuf,
    /// `autossl-ca-file`.
    pub ca: PathBuf,
}

/// Which certificate this is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// There is none yet. Whoever comes first gets this host, as with the agent; [`Terms`] narrow
    /// that.
    First,
    /// One is in use: only clients that it lets in may renew it.
    Renewal,
}

/// What the configuration says about enrolment.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Where things are.
    pub files: Files,
    /// `[proxy] enrol-from`; empty means everyone.
    pub from: Vec<AddressRange>,
    /// `[proxy] enrol-window`, from the start of the process; for [`Occasion::First`] alone.
    pub window: Option<Duration>,
    /// `[proxy] enrol-key`, for a key that has to be made.
    pub key: KeyKind,
    /// Longest time for a request's body, from the end of its head: `header-timeout`.
    pub body_timeout: Duration,
}

/// What outlives a reload.
#[derive(Debug)]
pub struct Office {
    opened: Instant,
    requests: Arc<Mutex<Requests>>,
    threads: Threads,
    /// Pulled when a certificate has been stored.
    reload: Trigger,
}

impl Office {
    /// Starts the clock of `enrol-window`.
    #[must_use]
    pub fn open(reload: Trigger) -> Self {
        let threads = Threads::new("enrolment", 1);
        Self { opened: Instant::now(), requests: Arc::default(), threads, reload }
    }
}

/// Answers the requests to `/autotls`, one at a time.
#[derive(Clone, Debug)]
pub struct Desk {
    occasion: Occasion,
    terms: Arc<Terms>,
    office: Arc<Office>,
}

impl Desk {
    /// By the `terms` of the configuration in use.
    #[must_use]
    pub fn new(occasion: Occasion, terms: Terms, office: Arc<Office>) -> Self {
        Self { occasion, terms: Arc::new(terms), office }
    }

    /// Whether nothing else may be served, because there is no certificate yet.
    #[must_use]
    pub fn is_all_there_is(&self) -> bool {
        self.occasion == Occasion::First
    }

    /// Whether this client may ask at all.
    ///
    /// # Errors
    /// [`EnrolError::Closed`] and [`EnrolError::NoClientCertificate`].
    pub fn admit(&self, peer: &Peer) -> Result<(), EnrolError> {
        let Terms { from, window, .. } = &*self.terms;
        let address = peer.address.ip();
        if !from.is_empty() && !from.iter().any(|range| range.contains(address)) {
            return Err(EnrolError::Closed);
        }
        match self.occasion {
            Occasion::First => match window {
                Some(window) if self.office.opened.elapsed() > *window => Err(EnrolError::Closed),
                Some(_) | None => Ok(()),
            },
            Occasion::Renewal if peer.identity.is_none() => Err(EnrolError::NoClientCertificate),
            Occasion::Renewal => Ok(()),
        }
    }

    /// The signing request (PEM) for `domain`, else for this host's own name. The key is made and
    /// stored when there is none; the same request is signed only once.
    ///
    /// Dropping the future does not end the work, whose result the next one finds.
    ///
    /// # Errors
    /// [`EnrolError::Domain`], [`EnrolError::Busy`], [`EnrolError::Key`], [`EnrolError::GivenUp`].
    pub async fn signing_request(&self, domain: Option<String>) -> Result<String, EnrolError> {
        self.in_turn(move |desk, requests| {
            let Terms { files, key, .. } = &*desk.terms;
            requests.signed(files, *key, domain.as_deref())
        })
        .await
    }

    /// Reads what was posted, checks it, stores it and asks for a reload.
    ///
    /// Dropping the future while the body is read changes nothing; later it does not end the work.
    ///
    /// # Errors
    /// See [`EnrolError`]; no file has changed then, but for [`EnrolError::Store`] by a disk that fails.
    pub async fn take<B>(
        &self,
        peer: &Peer,
        activity: &Arc<Activity>,
        body: B,
        arrival: Instant,
    ) -> Result<(), EnrolError>
    where
        B: Body,
        B::Error: Into<Cause>,
    {
        let body = read(body, arrival, self.terms.body_timeout).await?;
        let (address, client) = (peer.address, peer.client().to_owned());
        let shown = peer.identity.as_ref().map(|identity| identity.spki_sha256);
        let activity = Arc::clone(activity);
        self.in_turn(move |desk, _| {
            // Asked after all waiting, not before: a client that was shut out stores nothing. A first
            // enrolment shuts out all who come in plain HTTP, and says that it was the first.
            if desk.occasion == Occasion::Renewal && activity.is_dismissed() {
                return Err(EnrolError::Dismissed);
            }
            let files = &desk.terms.files;
            let key = key::read(&files.key)?;
            let checked = Checked::of(&body, key.as_ref(), OffsetDateTime::now_utc())?;
            let (stored, done) = match desk.occasion {
                Occasion::First => (store::first(files, &checked), "enrolled"),
                Occasion::Renewal => {
                    (store::renewal(files, &checked, shown), "certificate renewed")
                }
            };
            // A disk that failed may have taken a file all the same.
            if let Ok(()) | Err(EnrolError::Store(_)) = stored {
                desk.office.reload.pull();
            }
            stored?;
            tracing::info!(
                peer = %address,
                client,
                subject = checked.subject,
                ca_sha256 = checked.ca_sha256,
                "{done}"
            );
            Ok(())
        })
        .await
    }

    /// Works on one request at a time, off the threads that serve connections.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &mut Requests) -> Result<T, EnrolError> + Send + 'static,
    ) -> Result<T, EnrolError> {
        let turn = timeout(TURN, Arc::clone(&self.office.requests).lock_owned());
        let mut requests = turn.await.map_err(|_| EnrolError::Busy(TURN))?;
        let desk = self.clone();
        // With the lock: when the client goes away the work goes on, and no other begins meanwhile.
        let worked = self.office.threads.run(move || work(&desk, &mut requests));
        worked.await.unwrap_or_else(|error| match error {
            BlockingError::NoThread { .. } => Err(EnrolError::NoResources(error.into())),
            BlockingError::Panicked { .. } => Err(EnrolError::GivenUp),
        })
    }
}

/// The whole body, in time and within its limit.
async fn read<B>(body: B, arrival: Instant, within: Duration) -> Result<Bytes, EnrolError>
where
    B: Body,
    B::Error: Into<Cause>,
{
    let limit = usize::try_from(MAX_BODY).unwrap_or(usize::MAX);
    match timeout_at(arrival + within, Limited::new(body, limit).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(EnrolError::TooLarge(MAX_BODY)),
        Ok(Err(error)) => Err(EnrolError::BodyLost(error)),
        Err(_) => Err(EnrolError::BodyTimeout(within)),
    }
}
