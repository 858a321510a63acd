//! Who may connect: address ranges, and patterns over client certificates.

use std::net::IpAddr;

use super::values::shown;
use crate::common::peer::ClientIdentity;

/// One pattern of `[proxy] client-allow`. `*` matches any number of characters, `?` exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientPattern {
    /// `CN=…`: the subject's common name.
    CommonName(String),
    /// `DNS:…`: a DNS name of the subjectAltName. Case is ignored.
    Dns(String),
    /// `URI:…`: a URI of the subjectAltName.
    Uri(String),
    /// `IP:…`: an IP address of the subjectAltName, or a range in CIDR notation.
    Ip(AddressRange),
    /// `sha256:…`: SHA-256 of the SubjectPublicKeyInfo, 64 hexadecimal digits (colons allowed).
    SpkiSha256([u8; 32]),
}

/// An address, or a range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// The network's address.
    pub network: IpAddr,
    /// The number of leading bits that are compared.
    pub prefix: u8,
}

impl AddressRange {
    /// Whether the range contains `address`. An IPv4 address that is mapped into IPv6 counts as
    /// IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.prefix) == Some(self.network)
    }
}

/// `address` with all bits cleared after the first `prefix` bits. `None` if the address has fewer
/// bits.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let cleared = 32_u32.checked_sub(prefix)?;
            let mask = u32::MAX.checked_shl(cleared).unwrap_or(0);
            Some(IpAddr::V4((address.to_bits() & mask).into()))
        }
        IpAddr::V6(address) => {
            let cleared = 128_u32.checked_sub(prefix)?;
            let mask = u128::MAX.checked_shl(cleared).unwrap_or(0);
            Some(IpAddr::V6((address.to_bits() & mask).into()))
        }
    }
}

impl ClientPattern {
    /// Whether one of the names in the certificate of `client` matches the pattern.
    #[must_use]
    pub fn matches(&self, client: &ClientIdentity) -> bool {
        match self {
            Self::CommonName(pattern) => {
                client.common_name.as_deref().is_some_and(|name| glob(pattern, name))
            }
            Self::Dns(pattern) => {
                let pattern = pattern.to_ascii_lowercase();
                client.dns.iter().any(|name| glob(&pattern, &name.to_ascii_lowercase()))
            }
            Self::Uri(pattern) => client.uris.iter().any(|uri| glob(pattern, uri)),
            Self::Ip(range) => client.ips.iter().any(|&address| range.contains(address)),
            Self::SpkiSha256(pin) => client.spki_sha256 == *pin,
        }
    }
}

/// Whether `pattern` matches all of `text`. On a mismatch only the last `*` takes one more
/// character, so the time is at most proportional to the product of both lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut last_star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(&expected) if expected == '?' || expected == text[t] => {
                p += 1;
                t += 1;
            }
            Some(_) | None => match &mut last_star {
                Some((star, taken)) => {
                    *taken += 1;
                    (p, t) = (*star + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&rest| rest == '*')
}

/// An IP address, or `NETWORK/PREFIX`.
pub(super) fn address_range(value: &str) -> Result<AddressRange, String> {
    let wrong =
        || format!("{} is neither an IP address nor a range such as 10.0.0.0/8", shown(value));
    let (address, prefix) = match value.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (value, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| wrong())?
        }
        Some(_) => return Err(wrong()),
        None => whole,
    };
    if address.to_canonical() != address {
        return Err(format!("{} is IPv4 mapped into IPv6; write it as IPv4", shown(value)));
    }
    let network = masked(address, prefix).ok_or_else(wrong)?;
    if network != address {
        return Err(format!(
            "{} has bits set after its prefix; write {network}/{prefix}, or the address alone",
            shown(value)
        ));
    }
    Ok(AddressRange { network, prefix })
}

/// `[proxy] enrol-from`: ranges, separated by commas.
pub(super) fn address_ranges(value: &str) -> Result<Vec<AddressRange>, String> {
    list(value, address_range)
}

/// `[proxy] client-allow`: patterns, separated by commas.
pub(super) fn client_patterns(value: &str) -> Result<Vec<ClientPattern>, String> {
    list(value, client_pattern)
}

fn list<T>(value: &str, one: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    value
        .split(',')
        .map(|item| match item.trim() {
            "" => Err("an entry is empty; remove the extra comma".to_owned()),
            item => one(item),
        })
        .collect()
}

fn client_pattern(value: &str) -> Result<ClientPattern, String> {
    let (kind, rest) = value
        .find(['=', ':'])
        .map(|at| value.split_at(at + 1))
        .ok_or_else(|| unknown_kind(value))?;
    let rest = rest.trim();
    let text = || match rest {
        "" => Err(format!("missing value after {}", shown(kind))),
        rest => Ok(rest.to_owned()),
    };
    match kind.to_ascii_lowercase().as_str() {
        "cn=" => text().map(ClientPattern::CommonName),
        "dns:" => text().map(ClientPattern::Dns),
        "uri:" => text().map(ClientPattern::Uri),
        "ip:" => address_range(rest).map(ClientPattern::Ip),
        "sha256:" => sha256(rest).map(ClientPattern::SpkiSha256),
        _ => Err(unknown_kind(value)),
    }
}

fn unknown_kind(value: &str) -> String {
    format!("{} must start with `CN=`, `DNS:`, `URI:`, `IP:` or `sha256:`", shown(value))
}

/// 64 hexadecimal digits, with or without colons between the pairs.
fn sha256(value: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("{} is not 64 hexadecimal digits", shown(value));
    let digits: Vec<u8> = value
        .chars()
        .filter(|&c| c != ':')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if digits.len() != 64 {
        return Err(wrong());
    }
    bytes.try_into().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> ClientIdentity {
        ClientIdentity {
            common_name: Some("prometheus-1".to_owned()),
            dns: vec!["Prom.example.org".to_owned()],
            uris: vec!["spiffe://example.org/prom".to_owned()],
            ips: vec![IpAddr::from([192, 0, 2, 7])],
            spki_sha256: [7; 32],
            label: "prometheus-1".to_owned(),
        }
    }

    fn range(value: &str) -> AddressRange {
        address_range(value).unwrap_or_else(|message| panic!("{value}: {message}"))
    }

    #[test]
    fn a_range_contains_its_addresses_in_either_notation() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.7", "10.0.0.7", "10.0.0.6"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("fd00::/8", "fdff::1", "fe80::1"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
        ] {
            let at =
                |address: &str| address.parse::<IpAddr>().ok().map(|a| range(text).contains(a));
            assert_eq!(at(inside), Some(true), "{inside} in {text}");
            assert_eq!(at(outside), Some(false), "{outside} in {text}");
        }
    }

    #[test]
    fn an_ambiguous_or_malformed_range_is_refused() {
        for text in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "/8",
            "a/8",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "10.0.0.0/256",
            "::ffff:10.0.0.0/104",
        ] {
            assert!(address_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn client_patterns_are_distinguished_by_their_prefix() {
        let digits = "ab".repeat(32);
        let pairs = vec!["AB"; 32].join(":");
        let text = format!(
            "CN=mon*, DNS:*.example, URI:spiffe://a/b, ip:10.0.0.0/8, sha256:{digits}, SHA256:{pairs}"
        );
        let expected = vec![
            ClientPattern::CommonName("mon*".to_owned()),
            ClientPattern::Dns("*.example".to_owned()),
            ClientPattern::Uri("spiffe://a/b".to_owned()),
            ClientPattern::Ip(range("10.0.0.0/8")),
            ClientPattern::SpkiSha256([0xab; 32]),
            ClientPattern::SpkiSha256([0xab; 32]),
        ];
        assert_eq!(client_patterns(&text), Ok(expected));
        for text in [
            "",
            "CN=",
            "CN=a,",
            ",CN=a",
            "CN=a,,CN=b",
            "mon",
            "O=acme",
            "IP:10.0.0.1/8",
            "sha256:ab",
            "sha256:zz",
            "DNS: ",
            "dns=a",
        ] {
            assert!(client_patterns(text).is_err(), "{text}");
        }
    }

    #[test]
    fn globs_match_all_of_the_text() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "aab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcdef", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("**", "x", true),
            ("*.org", "a.organic", false),
            ("ä?", "äß", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!glob(&"*a".repeat(200), &"b".repeat(20_000)));
    }

    #[test]
    fn a_client_is_allowed_by_any_of_its_names() {
        for (pattern, expected) in [
            (ClientPattern::CommonName("prometheus-*".to_owned()), true),
            (ClientPattern::CommonName("Prometheus-1".to_owned()), false),
            (ClientPattern::Dns("*.EXAMPLE.org".to_owned()), true),
            (ClientPattern::Dns("example.org".to_owned()), false),
            (ClientPattern::Uri("spiffe://example.org/*".to_owned()), true),
            (ClientPattern::Ip(range("192.0.2.0/24")), true),
            (ClientPattern::Ip(range("192.0.2.8/29")), false),
            (ClientPattern::Ip(range("0.0.0.0/0")), true),
            (ClientPattern::Ip(range("::/0")), false),
            (ClientPattern::SpkiSha256([7; 32]), true),
            (ClientPattern::SpkiSha256([8; 32]), false),
        ] {
            assert_eq!(pattern.matches(&client()), expected, "{pattern:?}");
        }
    }
}
