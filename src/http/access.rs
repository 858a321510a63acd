//! Which clients are authorized: the patterns of `client-allow`, and HTTP Basic in addition to
//! them.

mod basic;

use std::{fmt, net::IpAddr};

use hyper::header::HeaderMap;

use self::basic::Basic;
use crate::common::{
    deadline::Deadline,
    error::Refusal,
    peer::{ClientIdentity, Peer},
};

/// `[default] auth = user:password`. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// The user: the text up to the first colon.
    pub user: String,
    /// The password: the text after the first colon.
    pub password: Password,
}

/// A password, as the file has it.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The password in plain text.
    Plain(String),
    /// A bcrypt hash, `$2a$`, `$2b$` or `$2y$`.
    Bcrypt(String),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BasicAuth(…)")
    }
}

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
pub(crate) fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
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
    fn matches(&self, client: &ClientIdentity) -> bool {
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

/// Decides which requests are authorized.
#[derive(Debug, Default)]
pub struct Access {
    allow: Vec<ClientPattern>,
    basic: Option<Basic>,
}

impl Access {
    /// Creates the rules. If `allow` is empty, every client that passed TLS is authorized.
    #[must_use]
    pub fn new(allow: Vec<ClientPattern>, basic: Option<BasicAuth>) -> Self {
        Self { allow, basic: basic.map(Basic::new) }
    }

    /// Takes over state from the rules before a reload: the queue of password checks and, if the
    /// password is unchanged, the credentials that were accepted. Otherwise each reload would allow
    /// one more check at a time, and send every scraper through the queue again.
    pub fn continue_from(&mut self, before: &Self) {
        if let (Some(basic), Some(before)) = (&mut self.basic, &before.basic) {
            basic.continue_from(before);
        }
    }

    /// Whether `client-allow` authorizes `client`, whatever its password is.
    #[must_use]
    pub fn allows(&self, client: Option<&ClientIdentity>) -> bool {
        self.allow.is_empty()
            || client.is_some_and(|client| self.allow.iter().any(|rule| rule.matches(client)))
    }

    /// Checks one request.
    ///
    /// Waits only if the password was not accepted before and must be compared with a bcrypt hash,
    /// and at most until `deadline`. Dropping the future removes the check from the queue.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] takes precedence over [`Refusal::Unauthorized`], so that a client
    /// that is not on the list cannot guess passwords. [`Refusal::Unchecked`] if the password could
    /// not be checked.
    pub async fn check(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        deadline: Deadline,
    ) -> Result<(), Refusal> {
        if !self.allows(peer.identity.as_ref()) {
            return Err(Refusal::NotAllowed);
        }
        match &self.basic {
            None => Ok(()),
            Some(basic) => basic.check(peer, headers, deadline).await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::time::Instant;

    use super::*;
    use crate::common::deadline::Budget;

    fn client() -> ClientIdentity {
        ClientIdentity {
            common_name: Some("prometheus-1".to_owned()),
            dns: vec!["Prom.example.org".to_owned()],
            uris: vec!["spiffe://example.org/prom".to_owned()],
            ips: vec!["192.0.2.7".parse().unwrap()],
            spki_sha256: [7; 32],
            label: "prometheus-1".to_owned(),
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
        let range =
            |network: &str, prefix| AddressRange { network: network.parse().unwrap(), prefix };
        for (pattern, expected) in [
            (ClientPattern::CommonName("prometheus-*".to_owned()), true),
            (ClientPattern::CommonName("Prometheus-1".to_owned()), false),
            (ClientPattern::Dns("*.EXAMPLE.org".to_owned()), true),
            (ClientPattern::Dns("example.org".to_owned()), false),
            (ClientPattern::Uri("spiffe://example.org/*".to_owned()), true),
            (ClientPattern::Ip(range("192.0.2.0", 24)), true),
            (ClientPattern::Ip(range("192.0.2.8", 29)), false),
            (ClientPattern::Ip(range("0.0.0.0", 0)), true),
            (ClientPattern::Ip(range("::", 0)), false),
            (ClientPattern::SpkiSha256([7; 32]), true),
            (ClientPattern::SpkiSha256([8; 32]), false),
        ] {
            assert_eq!(pattern.matches(&client()), expected, "{pattern:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_is_not_on_the_list_is_refused_before_its_password_is_checked() {
        let rule = ClientPattern::CommonName("other".to_owned());
        let auth = BasicAuth { user: "u".to_owned(), password: Password::Plain("p".to_owned()) };
        let access = Access::new(vec![rule], Some(auth));
        let deadline = Deadline::after(Instant::now(), Budget::new(Budget::MAX).unwrap());
        for identity in [None, Some(client())] {
            let peer = Peer { address: ([127, 0, 0, 1], 1).into(), identity };
            let refusal = access.check(&peer, &HeaderMap::new(), deadline).await;
            assert!(matches!(refusal, Err(Refusal::NotAllowed)));
        }
    }
}
