//! The requests to `/autotls`: one at a time, in the order in which they arrive.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use time::OffsetDateTime;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};

use super::{
    check::Checked,
    key::{self, Requests},
    policy::{EnrolmentKind, EnrolmentPolicy},
    store,
};
use crate::{
    common::{
        blocking::{BlockingError, Threads},
        error::{Cause, EnrolError},
        peer::Peer,
        reload::ReloadRequests,
    },
    http::control::ConnectionControl,
    http::route::MAX_BODY,
};

/// How long a request waits for earlier ones. Generating an RSA-4096 key takes seconds.
const TURN: Duration = Duration::from_secs(30);

/// The state of enrollment that survives a reload.
#[derive(Debug)]
pub struct EnrolmentState {
    opened: Instant,
    requests: Arc<Mutex<Requests>>,
    threads: Threads,
    /// Gets a request after a certificate was stored.
    reload: ReloadRequests,
}

impl EnrolmentState {
    /// Starts the clock of `enrol-window` and creates the thread for enrollment.
    #[must_use]
    pub fn open(reload: ReloadRequests) -> Self {
        let threads = Threads::new("enrollment", 1);
        Self { opened: Instant::now(), requests: Arc::default(), threads, reload }
    }
}

/// Handles the requests to `/autotls`, one at a time.
#[derive(Clone, Debug)]
pub struct EnrolmentEndpoint {
    kind: EnrolmentKind,
    policy: Arc<EnrolmentPolicy>,
    state: Arc<EnrolmentState>,
}

impl EnrolmentEndpoint {
    /// Creates a handler with the `policy` of the configuration in use.
    #[must_use]
    pub fn new(kind: EnrolmentKind, policy: EnrolmentPolicy, state: Arc<EnrolmentState>) -> Self {
        Self { kind, policy: Arc::new(policy), state }
    }

    /// Whether the proxy serves only enrollment, because it has no certificate yet.
    #[must_use]
    pub fn serves_only_enrolment(&self) -> bool {
        self.kind == EnrolmentKind::First
    }

    /// Whether this client may enroll or renew at all.
    ///
    /// # Errors
    /// [`EnrolError::Closed`] and [`EnrolError::NoClientCertificate`].
    pub fn admit(&self, peer: &Peer) -> Result<(), EnrolError> {
        let EnrolmentPolicy { from, window, .. } = &*self.policy;
        let address = peer.address.ip();
        if !from.is_empty() && !from.iter().any(|range| range.contains(address)) {
            return Err(EnrolError::Closed);
        }
        match self.kind {
            EnrolmentKind::First => match window {
                Some(window) if self.state.opened.elapsed() > *window => Err(EnrolError::Closed),
                Some(_) | None => Ok(()),
            },
            EnrolmentKind::Renewal if peer.identity.is_none() => {
                Err(EnrolError::NoClientCertificate)
            }
            EnrolmentKind::Renewal => Ok(()),
        }
    }

    /// The signing request (PEM) for `domain`, or for this host's own name. If the key does not
    /// exist, it is generated and stored. If the last request was for the same name, its signing
    /// request is returned again.
    ///
    /// Dropping the future does not stop the work. The next request finds its result.
    ///
    /// # Errors
    /// [`EnrolError::Domain`], [`EnrolError::Busy`], [`EnrolError::Key`],
    /// [`EnrolError::NoResources`], [`EnrolError::GivenUp`].
    pub async fn signing_request(&self, domain: Option<String>) -> Result<String, EnrolError> {
        self.in_turn(move |endpoint, requests| {
            let EnrolmentPolicy { files, key, .. } = &*endpoint.policy;
            requests.signed(files, *key, domain.as_deref())
        })
        .await
    }

    /// Reads the posted body, checks it, stores the certificate and requests a reload.
    ///
    /// Dropping the future while the body is read changes nothing. Later it does not stop the work.
    ///
    /// # Errors
    /// See [`EnrolError`]. No file has changed, except possibly after [`EnrolError::Store`].
    pub async fn take<B>(
        &self,
        peer: &Peer,
        control: Arc<dyn ConnectionControl>,
        body: B,
        arrival: Instant,
    ) -> Result<(), EnrolError>
    where
        B: Body,
        B::Error: Into<Cause>,
    {
        let body = read(body, arrival, self.policy.body_timeout).await?;
        let (address, client) = (peer.address, peer.client().to_owned());
        let shown = peer.identity.as_ref().map(|identity| identity.spki_sha256);
        self.in_turn(move |endpoint, _| {
            // Checked after all waiting, so that a client that lost its authorization meanwhile
            // stores nothing. Only for a renewal: a first enrollment dismisses all clients that use
            // plain HTTP, and they get the answer that the host is already enrolled.
            if endpoint.kind == EnrolmentKind::Renewal && control.is_dismissed() {
                return Err(EnrolError::Dismissed);
            }
            let files = &endpoint.policy.files;
            let key = key::read(&files.key)?;
            let checked = Checked::of(&body, key.as_ref(), OffsetDateTime::now_utc())?;
            let (stored, done) = match endpoint.kind {
                EnrolmentKind::First => (store::first(files, &checked), "enrolled"),
                EnrolmentKind::Renewal => {
                    (store::renewal(files, &checked, shown), "certificate renewed")
                }
            };
            // If the disk failed, a file may still have changed.
            if let Ok(()) | Err(EnrolError::Store(_)) = stored {
                endpoint.state.reload.request();
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

    /// Works on one request at a time, on a thread that serves no connections.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &mut Requests) -> Result<T, EnrolError> + Send + 'static,
    ) -> Result<T, EnrolError> {
        let turn = timeout(TURN, Arc::clone(&self.state.requests).lock_owned());
        let mut requests = turn.await.map_err(|_| EnrolError::Busy(TURN))?;
        let endpoint = self.clone();
        // The lock moves along: if the client leaves, the work continues, and no other work begins
        // meanwhile.
        let worked = self.state.threads.run(move || work(&endpoint, &mut requests));
        worked.await.unwrap_or_else(|error| match error {
            BlockingError::NoThread { .. } => Err(EnrolError::NoResources(error.into())),
            BlockingError::Panicked { .. } => Err(EnrolError::GivenUp),
        })
    }
}

/// Reads the whole body, within its time limit and size limit.
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
