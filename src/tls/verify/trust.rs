//! Trust anchors, and the decision by them.

use std::cell::Cell;

use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, ServerName, SubjectPublicKeyInfoDer,
        TrustAnchor, UnixTime,
    },
};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::{
    asn1_rs::{Any, FromDer as _},
    parse_x509_certificate,
};

use super::{
    anchor::Anchor,
    fault,
    revocation::{ListError, Lists},
    version1::Version1,
};
use crate::common::error::certificate::{CertificateFault, Link, Purpose, report};

/// Why a set of certificates and lists cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A certificate of the CA bundle cannot be used as a trust anchor.
    #[error("a certificate of the CA bundle cannot be used as a trust anchor")]
    Anchor(#[source] CertificateFault),
    /// No certificate was given.
    #[error("no trusted certificate was given")]
    Empty,
    /// A revocation list cannot be used.
    #[error("a revocation list (CRL) cannot be used")]
    List(#[source] ListError),
}

/// The role of the peer in the handshake.
#[derive(Clone, Copy, Debug)]
pub enum Role<'a> {
    /// The peer is a client.
    Client,
    /// The peer is the server that the client connected to by this name.
    Server(&'a ServerName<'a>),
}

impl Role<'_> {
    fn purpose(self) -> Purpose {
        match self {
            Self::Client => Purpose::Client,
            Self::Server(_) => Purpose::Server,
        }
    }
}

/// Trust anchors, and the revocation lists of their certificates.
#[derive(Debug)]
pub struct Trust {
    anchors: Vec<Anchor>,
    /// The anchors as webpki has them, in the same order.
    roots: Vec<TrustAnchor<'static>>,
    lists: Lists,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// Trusts `anchors`. If `lists` is not empty, each certificate of a chain needs a list from its
    /// issuer that is not past its `nextUpdate` and does not name the certificate. The anchor
    /// itself needs none.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn new(
        anchors: Vec<CertificateDer<'static>>,
        lists: Vec<CertificateRevocationListDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, TrustError> {
        let read = anchors.into_iter().map(Anchor::read).collect::<Result<Vec<_>, _>>();
        let lists = Lists::new(lists).map_err(TrustError::List)?;
        Self::of(read.map_err(TrustError::Anchor)?, lists, algorithms)
    }

    /// Trusts the usable certificates among `anchors`, and ignores the others.
    ///
    /// # Errors
    /// [`TrustError::Empty`] if none can be used.
    pub fn in_usable(
        anchors: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, TrustError> {
        let usable = anchors.into_iter().filter_map(|anchor| Anchor::read(anchor).ok());
        Self::of(usable.collect(), Lists::default(), algorithms)
    }

    fn of(
        anchors: Vec<(Anchor, TrustAnchor<'static>)>,
        lists: Lists,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, TrustError> {
        if anchors.is_empty() {
            return Err(TrustError::Empty);
        }
        let (anchors, roots) = anchors.into_iter().unzip();
        Ok(Self { anchors, roots, lists, algorithms })
    }

    /// Verifies the certificates of a peer at `now`: dates, signatures, revocation, extended key
    /// usage and, for a server, the name.
    ///
    /// A refusal is also reported to [`crate::common::error::certificate::watch`].
    ///
    /// # Errors
    /// See [`CertificateFault`].
    pub fn verify(
        &self,
        role: Role<'_>,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateFault> {
        self.check(role, leaf, intermediates, now).inspect_err(|fault| {
            report(fault::refused(leaf, fault.clone()));
        })
    }

    fn check(
        &self,
        role: Role<'_>,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateFault> {
        let version1 = Version1::of(leaf)?;
        if let Some(anchor) = self.anchors.iter().find(|anchor| anchor.is(leaf)) {
            anchor.holds_at(now, Link::Leaf)?;
            anchor.serves(role.purpose())?;
        } else if let Some(leaf) = &version1 {
            self.is_signed_by_an_anchor(leaf, intermediates, now)?;
        } else {
            self.has_a_path(role.purpose(), leaf, intermediates, now)?;
        }
        match (role, &version1) {
            (Role::Client, _) => Ok(()),
            (Role::Server(name), Some(leaf)) => leaf.is_valid_for(name),
            (Role::Server(name), None) => EndEntityCert::try_from(leaf)
                .and_then(|parsed| parsed.verify_is_valid_for_subject_name(name))
                .map_err(|error| fault::of(error, leaf, now, role.purpose())),
        }
    }

    /// Builds and checks a path of X.509 version 3, with webpki.
    fn has_a_path(
        &self,
        purpose: Purpose,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateFault> {
        let fault_of = |error| fault::of(error, leaf, now, purpose);
        let parsed = EndEntityCert::try_from(leaf).map_err(fault_of)?;
        let usage = match purpose {
            Purpose::Client => KeyUsage::client_auth(),
            Purpose::Server => KeyUsage::server_auth(),
        };
        // webpki calls it only for a path in which everything else is right, so this fault is more
        // precise.
        let of_anchor = Cell::new(None);
        let check_anchor = |path: &webpki::VerifiedPath<'_>| {
            self.may_sign(path.anchor(), now).map_err(|fault| {
                of_anchor.set(Some(fault));
                webpki::Error::UnknownIssuer
            })
        };
        let lists = self.lists.for_webpki();
        parsed
            .verify_for_usage(
                self.algorithms.all,
                &self.roots,
                intermediates,
                now,
                usage,
                self.lists.options(&lists),
                Some(&check_anchor),
            )
            .map(|_| ())
            .map_err(|error| of_anchor.take().unwrap_or_else(|| fault_of(error)))
    }

    /// Whether one of the anchors with this name and key is a CA and is valid.
    fn may_sign(&self, root: &TrustAnchor<'_>, now: UnixTime) -> Result<(), CertificateFault> {
        let same = self.roots.iter().zip(&self.anchors).filter(|(other, _)| *other == root);
        let mut fault = CertificateFault::UnknownIssuer;
        for (_, anchor) in same {
            match anchor.may_sign_at(now) {
                Ok(()) => return Ok(()),
                Err(of_this) => fault = of_this,
            }
        }
        Err(fault)
    }

    /// Checks X.509 version 1 (RFC 5280 §4.1.2.1). webpki builds no path for such a certificate,
    /// and neither does this module: an anchor must have signed it.
    fn is_signed_by_an_anchor(
        &self,
        leaf: &Version1<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateFault> {
        leaf.holds_at(now)?;
        let mut fault = CertificateFault::UnknownIssuer;
        let issuers = self.roots.iter().zip(&self.anchors);
        for (_, anchor) in issuers.filter(|(root, _)| is_name_of(root, leaf.issuer())) {
            let checked = leaf
                .is_signed_with(&anchor.key()?, &self.algorithms)
                .and_then(|()| anchor.may_sign_at(now))
                .and_then(|()| anchor.constrains_no_names())
                .and_then(|()| self.lists.check(leaf, anchor, now, &self.algorithms));
            match checked {
                Ok(()) => return Ok(()),
                // Another CA with the same name is the least precise reason.
                Err(CertificateFault::UnknownIssuer) => {}
                Err(of_this) => fault = of_this,
            }
        }
        if fault == CertificateFault::UnknownIssuer && self.is_below_one_of(leaf, intermediates) {
            fault = CertificateFault::Version1BelowIntermediate;
        }
        Err(fault)
    }

    /// Whether one of `intermediates` signed the certificate, and a trust anchor signed one of
    /// them.
    fn is_below_one_of(&self, leaf: &Version1<'_>, intermediates: &[CertificateDer<'_>]) -> bool {
        let parsed =
            || intermediates.iter().filter_map(|der| Some(parse_x509_certificate(der).ok()?.1));
        let is_trusted = parsed().any(|intermediate| {
            let issuer = intermediate.issuer().as_raw();
            self.roots.iter().any(|root| is_name_of(root, issuer))
        });
        is_trusted
            && parsed().any(|intermediate| {
                let key = SubjectPublicKeyInfoDer::from(intermediate.public_key().raw);
                intermediate.subject().as_raw() == leaf.issuer()
                    && leaf.is_signed_with(&key, &self.algorithms).is_ok()
            })
    }

    /// When the first list is out of date (`nextUpdate`), in seconds since 1970. Only the newest
    /// list of each issuer counts.
    #[must_use]
    pub fn next_update(&self) -> Option<i64> {
        self.lists.next_update()
    }

    /// The last time before `now`, in seconds since 1970, at which the validity of an anchor or a
    /// list ended. A verification later than that is still correct about the anchors and lists.
    #[must_use]
    pub fn last_end_before(&self, now: i64) -> Option<i64> {
        let anchors = self.anchors.iter().map(Anchor::end);
        anchors.chain(self.lists.ends()).filter(|end| *end < now).max()
    }
}

/// Whether this encoded name is the name of `root`.
fn is_name_of(root: &TrustAnchor<'_>, name: &[u8]) -> bool {
    // webpki stores the contents of a name without its header.
    Any::from_der(name).is_ok_and(|(_, name)| name.data == root.subject.as_ref())
}
