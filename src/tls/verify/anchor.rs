//! A trusted certificate, and what it says about itself.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

use super::seconds;
use crate::error::certificate::{CertificateFault, Link, Purpose};

#[derive(Debug)]
pub(super) struct Anchor {
    der: CertificateDer<'static>,
    not_before: i64,
    not_after: i64,
    /// By [`signs`].
    signs: bool,
    /// RFC 5280 §4.2.1.10.
    has_name_constraints: bool,
    serves_clients: bool,
    serves_servers: bool,
}

impl Anchor {
    /// The second value is the same in webpki's form.
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

    /// Whether it is this certificate, byte for byte.
    pub(super) fn is(&self, certificate: &CertificateDer<'_>) -> bool {
        self.der.as_ref() == certificate.as_ref()
    }

    pub(super) fn key(&self) -> Result<SubjectPublicKeyInfoDer<'static>, CertificateFault> {
        let (_, parsed) =
            parse_x509_certificate(&self.der).map_err(|_| CertificateFault::Unreadable)?;
        Ok(SubjectPublicKeyInfoDer::from(parsed.public_key().raw.to_vec()))
    }

    /// Its last second.
    pub(super) fn end(&self) -> i64 {
        self.not_after
    }

    /// Whether it is valid (RFC 5280 §4.1.2.5: both ends included), as the peer's own certificate or
    /// as the anchor of its path.
    pub(super) fn holds_at(&self, now: UnixTime, link: Link) -> Result<(), CertificateFault> {
        in_time((self.not_before, self.not_after), now, link)
    }

    /// As the peer's own certificate: an extended key usage, if there is one, has to have this
    /// (RFC 5280 §4.2.1.12).
    pub(super) fn serves(&self, purpose: Purpose) -> Result<(), CertificateFault> {
        let serves = match purpose {
            Purpose::Client => self.serves_clients,
            Purpose::Server => self.serves_servers,
        };
        if serves { Ok(()) } else { Err(CertificateFault::Purpose(purpose)) }
    }

    /// Whether what it has signed is good at `now`.
    pub(super) fn may_sign_at(&self, now: UnixTime) -> Result<(), CertificateFault> {
        if !self.signs {
            return Err(CertificateFault::NotACa);
        }
        self.holds_at(now, Link::Anchor)
    }

    /// A certificate of version 1 has no names that constraints could be applied to.
    pub(super) fn constrains_no_names(&self) -> Result<(), CertificateFault> {
        if self.has_name_constraints { Err(CertificateFault::NameConstraints) } else { Ok(()) }
    }
}

pub(super) fn dates(certificate: &X509Certificate<'_>) -> (i64, i64) {
    let validity = certificate.validity();
    (validity.not_before.timestamp(), validity.not_after.timestamp())
}

pub(super) fn in_time(
    (not_before, not_after): (i64, i64),
    now: UnixTime,
    link: Link,
) -> Result<(), CertificateFault> {
    let now = seconds(now);
    if now < not_before {
        Err(CertificateFault::NotYetValid(link, not_before))
    } else if now > not_after {
        Err(CertificateFault::Expired(link, not_after))
    } else {
        Ok(())
    }
}

/// Whether what it has signed can be trusted because of it (RFC 5280 §4.2.1.9 and §4.2.1.3).
///
/// Many CAs have neither extension, and those of version 1 cannot. But nor has the certificate of a
/// client that `openssl x509 -req` made, and its holder must not become a CA when it is trusted. Such a
/// certificate counts as a CA only if it names itself as its issuer, as for OpenSSL.
pub(in crate::tls) fn signs(certificate: &X509Certificate<'_>) -> bool {
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

/// As to clients and as to servers.
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
