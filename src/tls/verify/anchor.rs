//! A trust anchor, and what its own fields allow.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

use super::dates::{dates, in_time};
use crate::common::error::certificate::{CertificateFault, Link, Purpose};

#[derive(Debug)]
pub(super) struct Anchor {
    der: CertificateDer<'static>,
    not_before: i64,
    not_after: i64,
    /// Whether it may sign, by [`signs`].
    signs: bool,
    /// Whether it has name constraints (RFC 5280 §4.2.1.10).
    has_name_constraints: bool,
    serves_clients: bool,
    serves_servers: bool,
}

impl Anchor {
    /// Parses an anchor. The second value is the same anchor in webpki's form.
    pub(super) fn read(
        der: CertificateDer<'static>,
    ) -> Result<(Self, TrustAnchor<'static>), CertificateFault> {
        let (rest, parsed) =
            parse_x509_certificate(&der).map_err(|_| CertificateFault::Unreadable)?;
        if !rest.is_empty() {
            return Err(CertificateFault::Unreadable);
        }
        let root = webpki::anchor_from_trusted_cert(&der)
            .map_err(|_| CertificateFault::Unreadable)?
            .to_owned();
        let (not_before, not_after) = dates(&parsed);
        let (serves_clients, serves_servers) = purposes(&parsed);
        let (signs, has_name_constraints) = (signs(&parsed), has_name_constraints(&parsed));
        let anchor = Self {
            not_before,
            not_after,
            signs,
            has_name_constraints,
            serves_clients,
            serves_servers,
            der,
        };
        Ok((anchor, root))
    }

    /// Whether `certificate` is this anchor, byte for byte.
    pub(super) fn is(&self, certificate: &CertificateDer<'_>) -> bool {
        self.der.as_ref() == certificate.as_ref()
    }

    pub(super) fn key(&self) -> Result<SubjectPublicKeyInfoDer<'static>, CertificateFault> {
        let (_, parsed) =
            parse_x509_certificate(&self.der).map_err(|_| CertificateFault::Unreadable)?;
        Ok(SubjectPublicKeyInfoDer::from(parsed.public_key().raw.to_vec()))
    }

    /// The last second of its validity, in seconds since 1970.
    pub(super) fn end(&self) -> i64 {
        self.not_after
    }

    /// Whether the anchor is valid at `now`, as the peer's own certificate or as the end of a path.
    /// Both ends belong to the validity (RFC 5280 §4.1.2.5).
    pub(super) fn holds_at(&self, now: UnixTime, link: Link) -> Result<(), CertificateFault> {
        in_time((self.not_before, self.not_after), now, link)
    }

    /// Whether the anchor can be the peer's own certificate: an extended key usage, if present,
    /// must include `purpose` (RFC 5280 §4.2.1.12).
    pub(super) fn serves(&self, purpose: Purpose) -> Result<(), CertificateFault> {
        let serves = match purpose {
            Purpose::Client => self.serves_clients,
            Purpose::Server => self.serves_servers,
        };
        if serves { Ok(()) } else { Err(CertificateFault::Purpose(purpose)) }
    }

    /// Whether the anchor may sign certificates and is valid at `now`.
    pub(super) fn may_sign_at(&self, now: UnixTime) -> Result<(), CertificateFault> {
        if !self.signs {
            return Err(CertificateFault::NotACa);
        }
        self.holds_at(now, Link::Anchor)
    }

    /// Fails if the anchor has name constraints. They cannot be applied to a certificate of version
    /// 1, which has no subjectAltName.
    pub(super) fn constrains_no_names(&self) -> Result<(), CertificateFault> {
        if self.has_name_constraints { Err(CertificateFault::NameConstraints) } else { Ok(()) }
    }
}

/// Whether a certificate may sign other certificates (RFC 5280 §4.2.1.9 and §4.2.1.3).
///
/// Many CAs have neither extension, and CAs of version 1 cannot have them. But a client's
/// certificate from plain `openssl x509 -req` has neither extension too, and trusting this client
/// must not make it a CA. A certificate with neither extension therefore counts as a CA only if it
/// is its own issuer, as in OpenSSL.
pub(crate) fn signs(certificate: &X509Certificate<'_>) -> bool {
    let (Ok(constraints), Ok(usage)) = (certificate.basic_constraints(), certificate.key_usage())
    else {
        return false;
    };
    let may_sign = usage.map(|usage| usage.value.key_cert_sign());
    match constraints {
        Some(constraints) => constraints.value.ca && may_sign != Some(false),
        None => may_sign
            .unwrap_or_else(|| certificate.subject().as_raw() == certificate.issuer().as_raw()),
    }
}

/// Whether the certificate may authenticate clients, and whether servers.
fn purposes(certificate: &X509Certificate<'_>) -> (bool, bool) {
    match certificate.extended_key_usage() {
        Ok(Some(usage)) => {
            let any = usage.value.any;
            (any || usage.value.client_auth, any || usage.value.server_auth)
        }
        Ok(None) => (true, true),
        Err(_) => (false, false),
    }
}

fn has_name_constraints(certificate: &X509Certificate<'_>) -> bool {
    !matches!(certificate.name_constraints(), Ok(None))
}
