//! X.509 version 1: no extensions, so no subjectAltName, no extended key usage and no CA flag.
//! `openssl x509 -req` makes it by default on many systems. webpki does not parse it.
//!
//! This module checks what webpki checks, as far as it applies: the signature of an anchor (RFC
//! 5280 §6.1.3 (a) (1)), the dates (§6.1.3 (a) (2)), revocation (§6.1.3 (a) (3)) and the issuer's
//! name (§6.1.3 (a) (4)).

use std::net::IpAddr;

use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{
        CertificateDer, IpAddr as ServerAddress, ServerName, SubjectPublicKeyInfoDer, UnixTime,
    },
};
use x509_parser::{certificate::X509Certificate, parse_x509_certificate, x509::X509Version};

use super::{
    dates::{dates, in_time},
    signed::{BadSignature, Signed},
};
use crate::common::error::certificate::{CertificateFault, Link};

/// A certificate of X.509 version 1.
#[derive(Debug)]
pub(super) struct Version1<'a>(X509Certificate<'a>);

impl<'a> Version1<'a> {
    /// Parses a certificate. `None` for version 3, which webpki handles.
    pub(super) fn of(
        certificate: &'a CertificateDer<'_>,
    ) -> Result<Option<Self>, CertificateFault> {
        let Ok((rest, parsed)) = parse_x509_certificate(certificate) else {
            return Err(CertificateFault::Unreadable);
        };
        if parsed.version == X509Version::V3 {
            return Ok(None);
        }
        // RFC 5280 §4.1.2.1: version 2 added unique identifiers, version 3 added extensions.
        if parsed.version != X509Version::V1
            || parsed.issuer_uid.is_some()
            || parsed.subject_uid.is_some()
            || !parsed.extensions().is_empty()
        {
            return Err(CertificateFault::Version);
        }
        // RFC 5280 §4.1.1.2: the signed part names the algorithm too.
        if !rest.is_empty() || parsed.signature != parsed.signature_algorithm {
            return Err(CertificateFault::Unreadable);
        }
        Ok(Some(Self(parsed)))
    }

    pub(super) fn holds_at(&self, now: UnixTime) -> Result<(), CertificateFault> {
        in_time(dates(&self.0), now, Link::Leaf)
    }

    /// Whether the owner of `key` signed the certificate.
    pub(super) fn is_signed_with(
        &self,
        key: &SubjectPublicKeyInfoDer<'_>,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), CertificateFault> {
        let signed = Signed::new(self.0.as_raw(), self.0.tbs_certificate.as_ref())
            .ok_or(CertificateFault::Unreadable)?;
        signed.verify(key, algorithms).map_err(|bad| match bad {
            BadSignature::Algorithm => CertificateFault::Algorithm,
            BadSignature::OtherKey => CertificateFault::UnknownIssuer,
        })
    }

    /// Whether the certificate is valid for the server's `name`.
    ///
    /// It has no subjectAltName, so the common name counts, as in OpenSSL and curl (RFC 2818 §3.1).
    /// All of it must match; case is ignored and wildcards are not supported.
    pub(super) fn is_valid_for(&self, name: &ServerName<'_>) -> Result<(), CertificateFault> {
        let expected = name.to_str();
        let names: Vec<&str> =
            self.0.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect();
        let is_it = |presented: &&str| {
            if let ServerName::IpAddress(address) = name {
                presented.parse::<IpAddr>().is_ok_and(|it| ServerAddress::from(it) == *address)
            } else {
                presented.eq_ignore_ascii_case(&expected)
            }
        };
        if names.iter().any(is_it) {
            return Ok(());
        }
        Err(CertificateFault::Name {
            expected: expected.into_owned(),
            presented: names.into_iter().map(str::to_owned).collect(),
        })
    }

    pub(super) fn key(&self) -> SubjectPublicKeyInfoDer<'_> {
        SubjectPublicKeyInfoDer::from(self.0.public_key().raw)
    }

    pub(super) fn issuer(&self) -> &[u8] {
        self.0.issuer().as_raw()
    }

    /// The encoded serial number, with leading zeros.
    pub(super) fn serial(&self) -> &[u8] {
        self.0.raw_serial()
    }
}
