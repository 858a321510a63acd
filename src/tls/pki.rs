//! Issues certificates: a CA, server and client pairs, and files for them.
//!
//! Keys are ECDSA P-256. This module never reads certificates. If you already have a PKI, you do
//! not need it.

use std::{fmt, net::IpAddr};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use time::{Duration, OffsetDateTime};

/// How far another host's clock may be behind. Certificates are valid from this long before now.
const CLOCK_SKEW: Duration = Duration::HOUR;

/// Longest common name that X.509 has room for (`ub-common-name`, RFC 5280, appendix A.1).
const MAX_COMMON_NAME: usize = 64;

/// How long certificates are valid. All validity periods begin one hour ago, for clocks that are
/// behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// The CA for ten years; certificates that it signs for 825 days, the longest time that Apple's
    /// TLS accepts.
    Permanent,
    /// All certificates for one day.
    OneDay,
}

impl Validity {
    fn of_authority(self) -> Duration {
        match self {
            Self::Permanent => Duration::days(3653),
            Self::OneDay => Duration::DAY,
        }
    }

    fn of_leaf(self) -> Duration {
        match self {
            Self::Permanent => Duration::days(825),
            Self::OneDay => Duration::DAY,
        }
    }
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No host name or address was given.
    #[error("a server certificate needs at least one host name or address")]
    NoHost,
    /// These names are neither host names nor IP addresses.
    #[error("not a valid host name or IP address: {}", BadHosts(.0))]
    BadHosts(Vec<String>),
    /// The cryptographic library failed.
    #[error("cannot generate a certificate")]
    Generate(#[from] rcgen::Error),
}

/// The invalid hosts, each with a hint.
struct BadHosts<'a>(&'a [String]);

impl fmt::Display for BadHosts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, host) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}`{}`", host.escape_debug())?;
            if let Some(hint) = hint(host) {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}

fn hint(host: &str) -> Option<&'static str> {
    if host.starts_with('[') {
        Some("write an IPv6 address without brackets")
    } else if host.contains("://") || host.contains('/') {
        Some("write only the host, not a URL")
    } else if host.contains(':') {
        Some("leave out the port")
    } else if host.contains('*') {
        Some("wildcards are not supported")
    } else if host.ends_with('.') {
        Some("remove the dot at the end")
    } else if !host.is_ascii() {
        Some("write it in its `xn--` form")
    } else {
        None
    }
}

/// A certificate with its private key. `Debug` does not show the key.
pub struct Pair {
    /// The certificate, in PEM.
    pub certificate_pem: String,
    /// The private key, in PEM as PKCS #8.
    pub key_pem: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Pair {
    fn new(certificate: rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.into(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    /// The certificate, for rustls.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The private key, for rustls.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// A certificate authority that signs server and client certificates.
#[derive(Debug)]
pub struct Authority {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
    validity: Validity,
}

impl Authority {
    /// Creates a CA with a new key. It can sign leaf certificates and CRLs, but no other CA.
    ///
    /// # Errors
    /// [`Error::Generate`] if the cryptographic library fails.
    pub fn generate(common_name: &str, validity: Validity) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(validity.of_authority());
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self {
            pair: Pair::new(params.self_signed(&key)?, &key),
            issuer: Issuer::new(params, key),
            validity,
        })
    }

    /// The CA's own certificate and key.
    #[must_use]
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Issues a server certificate that is valid for each of `hosts`: host names or IP addresses.
    ///
    /// The first host is also the common name, unless it is longer than X.509 allows (64 bytes).
    ///
    /// # Errors
    /// [`Error::NoHost`], or [`Error::BadHosts`] with all invalid hosts, or [`Error::Generate`].
    pub fn server_pair(&self, hosts: &[String]) -> Result<Pair, Error> {
        let names = subject_alt_names(hosts)?;
        let first = hosts.first().ok_or(Error::NoHost)?;
        let mut params = self.leaf_params(ExtendedKeyUsagePurpose::ServerAuth);
        if first.len() <= MAX_COMMON_NAME {
            params.distinguished_name.push(DnType::CommonName, first.as_str());
        }
        params.subject_alt_names = names;
        self.sign(&params)
    }

    /// Issues a client certificate.
    ///
    /// # Errors
    /// [`Error::Generate`] if the cryptographic library fails.
    pub fn client_pair(&self, common_name: &str) -> Result<Pair, Error> {
        let mut params = self.leaf_params(ExtendedKeyUsagePurpose::ClientAuth);
        params.distinguished_name.push(DnType::CommonName, common_name);
        self.sign(&params)
    }

    fn leaf_params(&self, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
        let mut params = params(self.validity.of_leaf());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        // RFC 5280 §4.2.1.1. Strict verifiers, such as Python 3.13, require it.
        params.use_authority_key_identifier_extension = true;
        params
    }

    fn sign(&self, params: &CertificateParams) -> Result<Pair, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Pair::new(params.signed_by(&key, &self.issuer)?, &key))
    }
}

/// The parameters of a certificate without a name, valid for `length`.
fn params(length: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = OffsetDateTime::now_utc() - CLOCK_SKEW;
    // Both ends belong to the validity period (RFC 5280 §4.1.2.5). Without the subtracted
    // second, 825 days would count as 826.
    params.not_after = params.not_before + length - Duration::SECOND;
    params
}

fn subject_alt_names(hosts: &[String]) -> Result<Vec<SanType>, Error> {
    let (names, bad): (Vec<_>, Vec<_>) = hosts
        .iter()
        .map(|host| subject_alt_name(host).ok_or_else(|| host.clone()))
        .partition(Result::is_ok);
    if bad.is_empty() {
        Ok(names.into_iter().flatten().collect())
    } else {
        Err(Error::BadHosts(bad.into_iter().filter_map(Result::err).collect()))
    }
}

/// A signing request (PKCS #10, PEM) for `host`, which becomes the subjectAltName. It is also the
/// common name, unless it is longer than X.509 allows (64 bytes).
///
/// # Errors
/// [`Error::BadHosts`] if `host` is neither a host name nor an IP address, or [`Error::Generate`].
pub fn signing_request(host: &str, key: &KeyPair) -> Result<String, Error> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = subject_alt_names(&[host.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    if host.len() <= MAX_COMMON_NAME {
        params.distinguished_name.push(DnType::CommonName, host);
    }
    Ok(params.serialize_request(key)?.pem()?)
}

/// Whether a certificate can be issued for `host`: a DNS name without a trailing dot, or an IP
/// address.
#[must_use]
pub fn is_host(host: &str) -> bool {
    subject_alt_name(host).is_some()
}

fn subject_alt_name(host: &str) -> Option<SanType> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(SanType::IpAddress(address));
    }
    // A trailing dot is valid in DNS, but not in a certificate.
    let is_name =
        !host.ends_with('.') && matches!(ServerName::try_from(host), Ok(ServerName::DnsName(_)));
    is_name.then(|| host.try_into().ok().map(SanType::DnsName)).flatten()
}

#[cfg(test)]
mod tests;
