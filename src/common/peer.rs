//! The client at the other end of a connection: its address, and its certificate's identity.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// The log target of records that any client can cause at any rate. At most a few records of each
/// kind are written in a second ([`crate::service::telemetry`]).
pub(crate) const ANY_PEER: &str = "scrapegate::peer";

/// An address for the purpose of limits. An IPv6 address is reduced to its /64 prefix, because one
/// host usually controls a whole /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(IpAddr);

impl Host {
    /// The host of `ip`. An IPv4 address that is mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        })
    }
}

/// The scraper's address and, with mutual TLS, its verified identity.
#[derive(Debug)]
pub struct Peer {
    /// The remote address of the TCP connection.
    pub address: SocketAddr,
    /// The identity in the client certificate. `None` if client certificates are not required.
    pub identity: Option<ClientIdentity>,
}

impl Peer {
    /// The name of the client in logs: [`ClientIdentity::label`], or `-` without a client
    /// certificate. Contains no control characters.
    #[must_use]
    pub fn client(&self) -> &str {
        self.identity.as_ref().map_or("-", ClientIdentity::label)
    }
}

/// The identity in a verified client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The first common name (CN) of the subject.
    pub common_name: Option<String>,
    /// The DNS names of the subjectAltName.
    pub dns: Vec<String>,
    /// The URIs of the subjectAltName.
    pub uris: Vec<String>,
    /// The IP addresses of the subjectAltName.
    pub ips: Vec<IpAddr>,
    /// The SHA-256 digest of the SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// The name of the client in logs; see [`ClientIdentity::label`].
    pub(crate) label: String,
}

impl ClientIdentity {
    /// Reads the identity from a certificate that TLS has verified. Returns `None` if the
    /// certificate cannot be parsed; such a client has no identity and matches no allow-list.
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

    /// The name of the client in logs: the common name, else the first DNS name, else the first
    /// URI, else `sha256:` and the digest of the key. Contains no control characters.
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// Created by `openssl req -x509 -newkey ed25519`, with two common names and one name of each
    /// kind.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIB1zCCAYmgAwIBAgIUA9karScB7LzEZJT3lbvOThP8/6QwBQYDK2VwMDUxEDAO
BgNVBAoMB0V4YW1wbGUxEDAOBgNVBAMMB3NjcmFwZXIxDzANBgNVBAMMBnNlY29u
ZDAgFw0yNjExMjUwNzU3MTNaGA8yMTI2MTEwMTA3NTcxM1owNTEQMA4GA1UECgwH
RXhhbXBsZTEQMA4GA1UEAwwHc2NyYXBlcjEPMA0GA1UEAwwGc2Vjb25kMCowBQYD
K2VwAyEAHdEy+0d5EfaoNIuPChePf8/4sMSXdSaBDRa/pld5UmGjgagwgaUwHQYD
VR0OBBYEFLGmqmjai89D6osnf1DVnu554PskMB8GA1UdIwQYMBaAFLGmqmjai89D
6osnf1DVnu554PskMA8GA1UdEwEB/wQFMAMBAf8wUgYDVR0RBEswSYIJYS5leGFt
cGxlgglCLmV4YW1wbGWGEnNwaWZmZTovL2V4YW1wbGUvYYcEwAACB4cQIAENuAAA
AAAAAAAAAAAAB4EFYUBiLmMwBQYDK2VwA0EAope9lY1EBH8VOVE0UbbFkLxweuRS
U+Vc7gLaCcITq1zl9ijIR8Pjcn+pBNt6PmKXW35i9hqTXbUvi80U3VvfBw==
-----END CERTIFICATE-----
";

    /// Computed by
    /// `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256`.
    const SPKI_SHA256: &str = "33fced1cc04449a9ec600bfcaba98254918343f15e89c047eedcc6d7bd8b2300";

    #[test]
    fn a_host_is_an_ipv4_address_or_an_ipv6_prefix_of_64_bits() {
        let host = |ip: &str| Host::of(ip.parse().unwrap());
        assert_eq!(host("2001:db8:1:2:3:4:5:6"), host("2001:db8:1:2::"));
        assert_ne!(host("2001:db8:1:2::"), host("2001:db8:1:3::"));
        assert_eq!(host("::ffff:192.0.2.1"), host("192.0.2.1"));
        assert_ne!(host("192.0.2.1"), host("192.0.2.2"));
    }

    #[test]
    fn a_certificate_gives_the_identity_of_its_client() {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let identity = ClientIdentity::of(&certificate).unwrap();
        assert_eq!(identity.common_name.as_deref(), Some("scraper"));
        assert_eq!(identity.dns, ["a.example", "B.example"]);
        assert_eq!(identity.uris, ["spiffe://example/a"]);
        let ips: [IpAddr; 2] = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(identity.ips, ips);
        assert_eq!(hex(&identity.spki_sha256), SPKI_SHA256);
        assert_eq!(identity.label(), "scraper");
    }

    /// The identity in a self-signed certificate with these names, and its SubjectPublicKeyInfo.
    fn named(common_name: Option<&str>, names: Vec<rcgen::SanType>) -> (ClientIdentity, Vec<u8>) {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
        }
        params.subject_alt_names = names;
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        (ClientIdentity::of(certificate.der()).unwrap(), spki)
    }

    #[test]
    fn the_label_of_a_client_is_its_first_name_or_else_its_key() {
        let dns = || rcgen::SanType::DnsName("a.example".try_into().unwrap());
        let uri = || rcgen::SanType::URI("spiffe://a".try_into().unwrap());
        let ip = || rcgen::SanType::IpAddress([192, 0, 2, 7].into());
        let label = |name, names| named(name, names).0.label;
        assert_eq!(label(Some("a\nb"), vec![dns()]), "a\\nb");
        assert_eq!(label(None, vec![uri(), dns()]), "a.example");
        assert_eq!(label(None, vec![ip(), uri()]), "spiffe://a");
        for names in [vec![ip()], Vec::new()] {
            let (identity, spki) = named(None, names);
            let key = hex(digest(&SHA256, &spki).as_ref());
            assert_eq!(identity.label(), format!("sha256:{key}"));
        }
    }

    #[test]
    fn a_malformed_certificate_has_no_identity() {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let half = &certificate[..certificate.len() / 2];
        for bytes in [half, b"", b"0"] {
            assert_eq!(ClientIdentity::of(&CertificateDer::from(bytes)), None);
        }
    }
}
