//! Checks a posted certificate: whether it belongs to this host's key and chains to the posted CA.

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

use crate::{
    common::{
        error::{Cause, EnrolError},
        peer::hex,
    },
    config::TlsLevel,
    tls::{
        self, Clients, chain,
        inspect::{self, Anchors, CertificateProblem, Own},
        pem::{self, BlockPlace, Purpose},
    },
};

/// The body of a `POST`. Other members are ignored, as the agent does.
#[derive(Deserialize)]
struct Posted {
    signed: String,
    ca: String,
}

/// A certificate for this host's key that chains to `ca`, as a server can use them now.
#[derive(Debug)]
pub(super) struct Checked {
    /// The certificate and its intermediate CAs, in PEM as posted.
    pub(super) certificate: String,
    /// The CA, in PEM as posted.
    pub(super) ca: String,
    /// The certificates of `ca`.
    pub(super) anchors: Vec<CertificateDer<'static>>,
    /// The certificate's subject, escaped.
    pub(super) subject: String,
    /// SHA-256 of the CA certificate to which the certificate chains, in hexadecimal digits.
    pub(super) ca_sha256: String,
}

impl Checked {
    /// Checks the body of a `POST` against this host's `key`, if it has one.
    pub(super) fn of(
        body: &[u8],
        key: Option<&PrivateKeyDer<'static>>,
        now: OffsetDateTime,
    ) -> Result<Self, EnrolError> {
        let Posted { signed, ca } =
            serde_json::from_slice(body).map_err(|error| EnrolError::Malformed(place(&error)))?;
        let placed_chain = certificates(&signed, Purpose::Chain)
            .map_err(|problem| EnrolError::Unreadable("signed", problem))?;
        let placed_anchors = certificates(&ca, Purpose::ClientAuthorities)
            .map_err(|problem| EnrolError::Unreadable("ca", problem))?;
        let (chain, anchors) = (ders(&placed_chain), ders(&placed_anchors));
        let key = key.ok_or(EnrolError::WrongKey)?;
        let leaf = chain.first().ok_or(EnrolError::WrongKey)?;
        let signing_key = tls::provider()
            .key_provider
            .load_private_key(key.clone_key())
            .map_err(|error| EnrolError::Key(error.into()))?;
        if tls::server_key_matches(leaf, signing_key.as_ref()) != Some(true) {
            return Err(EnrolError::WrongKey);
        }
        let (parsed_chain, parsed_anchors) = (parsed(&chain), parsed(&anchors));
        let path = chain::path(&parsed_chain, &parsed_anchors).ok_or(EnrolError::WrongCa)?;
        let (Some(subject), Some(anchor)) = (path.first(), path.last()) else {
            return Err(EnrolError::WrongCa);
        };
        if !path.iter().all(|certificate| chain::is_valid_at(certificate, now)) {
            return Err(EnrolError::NotValidNow);
        }
        let (subject, ca_sha256) = (subject.subject().to_string(), hex(&sha256(anchor.as_raw())));
        let subject = subject.escape_debug().to_string();
        // The same checks as a reload makes. What a reload refuses must not be stored, because the
        // host could not start with it.
        let problems = inspect::chain(&placed_chain, Own::EnrolledServer, now)
            .into_iter()
            .chain(inspect::anchors(&placed_anchors, Anchors::OfClients, now));
        for problem in problems {
            if let CertificateProblem::Error(text) = problem {
                return Err(EnrolError::Unusable(text.into()));
            }
        }
        let clients = Clients::Require { anchors: anchors.clone(), crls: Vec::new() };
        tls::server_tls(TlsLevel::default(), chain.clone(), key, clients)
            .map_err(|error| EnrolError::Unusable(error.into()))?;
        Ok(Self { certificate: signed, ca, anchors, subject, ca_sha256 })
    }
}

/// Only the position. The message of serde_json may quote the body, which may contain a key by
/// mistake.
fn place(error: &serde_json::Error) -> Cause {
    format!("line {}, column {}", error.line(), error.column()).into()
}

/// The certificates of a PEM text that can be read. Other blocks are ignored.
pub(super) fn readable(pem: &str, purpose: Purpose) -> Vec<CertificateDer<'static>> {
    pem::read(pem.as_bytes(), purpose).used.into_iter().map(|(_, der)| der.into()).collect()
}

/// All certificates of a PEM text, or all its errors in one text.
fn certificates(
    pem: &str,
    purpose: Purpose,
) -> Result<Vec<(BlockPlace, CertificateDer<'static>)>, String> {
    let contents = pem::read(pem.as_bytes(), purpose);
    contents.check()?;
    Ok(contents.used.into_iter().map(|(place, der)| (place, der.into())).collect())
}

fn ders(placed: &[(BlockPlace, CertificateDer<'static>)]) -> Vec<CertificateDer<'static>> {
    placed.iter().map(|(_, der)| der.clone()).collect()
}

/// The certificates that can be parsed to their last byte.
pub(super) fn parsed<'a>(all: &'a [CertificateDer<'static>]) -> Vec<X509Certificate<'a>> {
    all.iter()
        .filter_map(|certificate| parse_x509_certificate(certificate).ok())
        .filter_map(|(rest, certificate)| rest.is_empty().then_some(certificate))
        .collect()
}

pub(super) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}
