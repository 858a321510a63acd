//! The address at which scrapers reach the proxy: the URL scheme, and `[proxy] advertise`.

use std::{net::Ipv6Addr, num::NonZeroU16};

use serde::Serialize;

use super::values::{host, port, shown};

/// The URL scheme of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP, with `insecure-plain-http`.
    Http,
    /// TLS, in all other cases.
    Https,
}

impl Scheme {
    /// The scheme in a URL, without `://`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// `[proxy] advertise`: the address at which scrapers reach the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// A DNS name or an IP address, IPv6 in brackets.
    pub host: String,
    /// The port. `None` stands for the port of the listener.
    pub port: Option<NonZeroU16>,
}

impl Advertised {
    /// `HOST` or `HOST:PORT`, as written, with IPv6 in brackets.
    ///
    /// # Errors
    /// The message for the user.
    pub fn parse(value: &str) -> Result<Self, String> {
        let after_brackets = value.rfind(']').unwrap_or(0);
        let (name, digits) = match value[after_brackets..].rfind(':') {
            Some(colon) => {
                let (name, digits) = value.split_at(after_brackets + colon);
                (name, Some(&digits[1..]))
            }
            None => (value, None),
        };
        if value.parse::<Ipv6Addr>().is_ok() {
            return Err(format!(
                "{} is an IPv6 address without brackets; write it in `[` and `]`",
                shown(value)
            ));
        }
        let bare_ipv6 = name.contains(':') && !name.starts_with('[');
        let port = digits.map(port).transpose();
        match port {
            Ok(port) if !bare_ipv6 && host(name).is_ok() => {
                Ok(Self { host: name.to_owned(), port })
            }
            Ok(_) | Err(_) => Err(format!("{} is neither HOST nor HOST:PORT", shown(value))),
        }
    }

    /// `HOST:PORT`. `listening` is the port of the listener.
    #[must_use]
    pub fn target(&self, listening: u16) -> String {
        format!("{}:{}", self.host, self.port.map_or(listening, NonZeroU16::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_have_their_names_in_urls() {
        assert_eq!([Scheme::Http, Scheme::Https].map(Scheme::as_str), ["http", "https"]);
    }

    #[test]
    fn an_advertised_address_may_lack_the_port_but_not_the_brackets() {
        for (text, host, port) in [
            ("a.example", "a.example", None),
            ("a.example:3333", "a.example", Some(3333)),
            ("10.0.0.1", "10.0.0.1", None),
            ("[::1]", "[::1]", None),
            ("[::1]:1", "[::1]", Some(1)),
        ] {
            let port = port.and_then(NonZeroU16::new);
            assert_eq!(Advertised::parse(text), Ok(Advertised { host: host.to_owned(), port }));
        }
        for text in
            ["::1", "::1:99999", "a:", "a:0", "a:70000", ":1", "http://a", "[::1]x", "[a]", "a b:1"]
        {
            assert!(Advertised::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_is_added_only_if_it_is_missing() {
        for (host, port, target) in [
            ("node1", None, "node1:3333"),
            ("node1", Some(8443), "node1:8443"),
            ("[2001:db8::1]", None, "[2001:db8::1]:3333"),
        ] {
            let port = port.and_then(NonZeroU16::new);
            let advertised = Advertised { host: host.to_owned(), port };
            assert_eq!(advertised.target(3333), target);
        }
    }
}
