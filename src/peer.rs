//! Who is at the other end of a connection.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// The log target of records that whoever connects can cause as often as it likes. Of each kind,
/// few a second are written ([`crate::telemetry`]).
pub(crate) const ANY_PEER: &str = "scrapegate::peer";

/// The scraper's address and, with TLS, who it proved to be.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate's identity; absent without client certificates.
    pub identity: Option<ClientIdentity>,
}

impl Peer {
    /// What logs call the client: its certificate's name, or `-`. No control characters.
    #[must_use]
    pub fn client(&self) -> &str {
        self.identity.as_ref().map_or("-", ClientIdentity::label)
    }
}

/// Who a client proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The subject's common name.
    pub common_name: Option<String>,
    /// DNS names of the subjectAltName.
    pub dns: Vec<String>,
    /// URIs of the subjectAltName.
    pub uris: Vec<String>,
    /// IP addresses of the subjectAltName.
    pub ips: Vec<IpAddr>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// What logs call the client; see [`ClientIdentity::label`].
    pub(crate) label: String,
}

impl ClientIdentity {
    /// Reads a certificate that TLS has verified. `None` when it cannot be read; such a client is
    /// nobody.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        let common_name = parsed
            .subject()
            .iter_common_name()
            .find_map(|name| name.as_str().ok())
            .map(str::to_owned);
        let mut identity = Self {
            label: String::new(),
            common_name,
            dns: Vec::new(),
            uris: Vec::new(),
            ips: Vec::new(),
            spki_sha256: [0; 32],
        };
        identity.spki_sha256.copy_from_slice(digest(&SHA256, parsed.public_key().raw).as_ref());
        let names = parsed.subject_alternative_name().ok().flatten();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            if let GeneralName::DNSName(name) = name {
                identity.dns.push((*name).to_owned());
            } else if let GeneralName::URI(uri) = name {
                identity.uris.push((*uri).to_owned());
            } else if let GeneralName::IPAddress(octets) = name {
                identity.ips.extend(address(octets));
            }
        }
        let name = identity.common_name.as_ref().or(identity.dns.first()).or(identity.uris.first());
        identity.label = match name {
            Some(name) => name.escape_debug().to_string(),
            None => format!("sha256:{}", hex(&identity.spki_sha256)),
        };
        Some(identity)
    }

    /// The common name, else the first other name, else the key's digest. No control characters.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
