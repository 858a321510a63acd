//! Who may ask: the allow-list of client certificates, and HTTP Basic beside them.

use std::{fmt, net::IpAddr};

use aws_lc_rs::digest::{SHA256, digest};
use hyper::header::{AUTHORIZATION, HeaderMap};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;

use crate::{error::Refusal, peer::ClientIdentity};

/// `[default] auth = user:password`. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// Up to the first colon.
    pub user: String,
    /// After it.
    pub password: Password,
}

/// A password as the file has it.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// In clear.
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

/// One entry of `[proxy] client-allow`. `*` stands for any run of characters, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientPattern {
    /// `CN=…`: the subject's common name.
    CommonName(String),
    /// `DNS:…`: a DNS name of the subjectAltName; compared without regard to case.
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
    /// How many leading bits count.
    pub prefix: u8,
}

impl AddressRange {
    /// Whether `address` lies in the range; an IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.prefix) == Some(self.network)
    }
}

/// `address` with all bits after the first `prefix` ones cleared; `None` when it has fewer.
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

/// Whether all of `text` matches `pattern`. Linear in both: on a mismatch only the last `*` takes
/// one more character.
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

/// Decides who may ask.
#[derive(Debug, Default)]
pub struct Access {
    allow: Vec<ClientPattern>,
    basic: Option<Basic>,
}

impl Access {
    /// An empty `allow` lets every client in that TLS let in.
    #[must_use]
    pub fn new(allow: Vec<ClientPattern>, basic: Option<BasicAuth>) -> Self {
        Self { allow, basic: basic.map(Basic::new) }
    }

    /// Whether `client` may ask at all, whatever its password.
    #[must_use]
    pub fn allows(&self, client: Option<&ClientIdentity>) -> bool {
        self.allow.is_empty()
            || client.is_some_and(|client| self.allow.iter().any(|rule| rule.matches(client)))
    }

    /// Checks one request.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] before [`Refusal::Unauthorized`]: who is not on the list does not
    /// get to guess passwords.
    pub async fn check(
        &self,
        client: Option<&ClientIdentity>,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        if !self.allows(client) {
            return Err(Refusal::NotAllowed);
        }
        match &self.basic {
            None => Ok(()),
            Some(basic) if basic.accepts(headers).await => Ok(()),
            Some(_) => Err(Refusal::Unauthorized),
        }
    }
}

/// HTTP Basic (RFC 7617). Everything is compared by digest, in constant time.
#[derive(Debug)]
struct Basic {
    expected: BasicAuth,
    /// Digest of the last credentials that bcrypt accepted. bcrypt takes tens of milliseconds of
    /// CPU by design, which would be most of a scrape.
    ///
    /// Held while bcrypt runs, so that of scrapes that arrive together one pays for all, and
    /// guesses take one core at most.
    accepted: Mutex<Option<[u8; 32]>>,
}

impl Basic {
    fn new(expected: BasicAuth) -> Self {
        Self { expected, accepted: Mutex::new(None) }
    }

    async fn accepts(&self, headers: &HeaderMap) -> bool {
        let Some(given) = credentials(headers) else {
            return false;
        };
        let mut halves = given.splitn(2, |&byte| byte == b':');
        let (Some(user), Some(password)) = (halves.next(), halves.next()) else {
            return false;
        };
        let user_is_right = equal(user, self.expected.user.as_bytes());
        match &self.expected.password {
            Password::Plain(expected) => user_is_right & equal(password, expected.as_bytes()),
            Password::Bcrypt(hash) => {
                let print = sha256(&given);
                let mut accepted = self.accepted.lock().await;
                if accepted.is_some_and(|accepted| accepted.ct_eq(&print).into()) {
                    return true;
                }
                let (password, hash) = (password.to_vec(), hash.clone());
                // An error of bcrypt's is a wrong password: the hash was checked when it was read.
                let verified = tokio::task::spawn_blocking(move || {
                    bcrypt::verify(password, &hash).unwrap_or(false)
                });
                let right = user_is_right & verified.await.unwrap_or(false);
                if right {
                    *accepted = Some(print);
                }
                right
            }
        }
    }
}

/// The decoded `user:password` of the one `Authorization: Basic` header.
fn credentials(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, token.trim()).ok()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut print = [0; 32];
    print.copy_from_slice(digest(&SHA256, bytes).as_ref());
    print
}

/// Digests first, so that the time does not tell the length either.
fn equal(one: &[u8], two: &[u8]) -> bool {
    sha256(one).ct_eq(&sha256(two)).into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

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

    fn authorization(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn basic_wants_the_right_user_and_password() {
        let plain = BasicAuth {
            user: "user".to_owned(),
            password: Password::Plain("pass:word".to_owned()),
        };
        let hashed = BasicAuth {
            user: "user".to_owned(),
            password: Password::Bcrypt(bcrypt::hash("pass:word", 4).unwrap()),
        };
        for expected in [plain, hashed] {
            let access = Access::new(Vec::new(), Some(expected));
            // Twice: the second time the answer is remembered.
            for _ in 0..2 {
                // user:pass:word
                let right = authorization("bAsIc dXNlcjpwYXNzOndvcmQ=");
                assert!(access.check(None, &right).await.is_ok());
                for wrong in [
                    "Basic dXNlcjpwYXNzOndvcmQx",
                    "Basic dXNlcjE6cGFzczp3b3Jk",
                    "Basic dXNlcg==",
                    "Basic !",
                    "Bearer dXNlcjpwYXNzOndvcmQ=",
                    "Basic",
                ] {
                    let refusal = access.check(None, &authorization(wrong)).await;
                    assert!(matches!(refusal, Err(Refusal::Unauthorized)), "{wrong}");
                }
                let none = access.check(None, &HeaderMap::new()).await;
                assert!(matches!(none, Err(Refusal::Unauthorized)));
            }
        }
    }

    #[tokio::test]
    async fn who_is_not_on_the_list_is_refused_before_the_password_is_looked_at() {
        let rule = ClientPattern::CommonName("other".to_owned());
        let auth = BasicAuth { user: "u".to_owned(), password: Password::Plain("p".to_owned()) };
        let access = Access::new(vec![rule], Some(auth));
        for client in [None, Some(client())] {
            let refusal = access.check(client.as_ref(), &HeaderMap::new()).await;
            assert!(matches!(refusal, Err(Refusal::NotAllowed)));
        }
    }
}
