//! Any query of `/prometheus?`: [`scrapegate::http::route`] finds the same exporter, the same parameters
//! to forward, and the same mistakes as the decoder in this module. The decoder follows the URL
//! standard's `application/x-www-form-urlencoded` and decodes once. The forwarded query is the
//! query byte for byte, without `exporter` and without empty parameters.
//!
//! In the queries of `/metrics?` and `/prometheus/sd?`, only `exporter` is refused.

use hyper::Uri;
use scrapegate::http::route::{Route, route};

/// Asserts the property. `input` is the query. An input that cannot be part of a URI is ignored.
///
/// # Panics
///
/// If the property does not hold.
pub fn check(input: &[u8]) {
    let target = [b"/prometheus?", input].concat();
    let Ok(uri) = Uri::try_from(&target[..]) else {
        return;
    };
    let fragment = input.iter().position(|&byte| byte == b'#');
    let query = &input[..fragment.unwrap_or(input.len())];
    assert_eq!(uri.query().map(str::as_bytes), Some(query), "hyper changed the query");
    let found = match route(&uri) {
        Ok(Route::List) => Asked::Nothing,
        Ok(Route::Scrape { exporter, forwarded }) => Asked::Exporter {
            name: exporter.as_str().to_owned(),
            forwarded: forwarded.into_bytes(),
        },
        Ok(
            other @ (Route::Discovery
            | Route::Metrics
            | Route::Status
            | Route::Enrolment { .. }
            | Route::Healthy
            | Route::Ready
            | Route::Reload),
        ) => panic!("{other:?}"),
        Err(refusal) => Asked::Refused(refusal.info().label),
    };
    assert_eq!(found, Asked::by(query));
    for path in [&b"/metrics?"[..], b"/prometheus/sd?"] {
        let uri = Uri::try_from([path, input].concat()).expect("the query is part of a URI");
        let refused = route(&uri).err().map(|refusal| refusal.info().label);
        assert_eq!(refused, names_exporter(query).then_some("exporter_parameter"));
    }
}

/// Whether the query has a key `exporter`.
pub(crate) fn names_exporter(query: &[u8]) -> bool {
    query.split(|&byte| byte == b'&').any(|parameter| {
        let key = parameter.splitn(2, |&byte| byte == b'=').next().unwrap_or_default();
        decoded(key).is_some_and(|key| key == b"exporter")
    })
}

/// The meaning of a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    Exporter {
        name: String,
        forwarded: Vec<u8>,
    },
    /// The label of the first mistake.
    Refused(&'static str),
}

impl Asked {
    /// Parses a query.
    pub(crate) fn by(query: &[u8]) -> Self {
        let mut exporter = None;
        let mut forwarded = Vec::new();
        for parameter in query.split(|&byte| byte == b'&').filter(|it| !it.is_empty()) {
            let equals = parameter.iter().position(|&byte| byte == b'=');
            let (key, value) = match equals {
                Some(at) => (&parameter[..at], &parameter[at + 1..]),
                None => (parameter, &b""[..]),
            };
            let Some(key) = decoded(key) else {
                return Self::Refused("query");
            };
            if key == b"exporter" {
                match name(value).filter(|_| exporter.is_none()) {
                    Some(name) => exporter = Some(name),
                    None => return Self::Refused("exporter_parameter"),
                }
            } else if decoded(value).is_none() {
                return Self::Refused("query");
            } else {
                forwarded.push(parameter);
            }
        }
        match exporter {
            Some(name) => Self::Exporter { name, forwarded: forwarded.join(&b'&') },
            None => Self::Nothing,
        }
    }
}

/// Whether the bytes are a valid exporter name: 1 to 128 bytes of UTF-8 without control characters.
fn name(value: &[u8]) -> Option<String> {
    let name = String::from_utf8(decoded(value)?).ok()?;
    let is_control = |c: char| matches!(u32::from(c), 0..=0x1f | 0x7f..=0x9f);
    let is_name = (1..=128).contains(&name.len()) && !name.chars().any(is_control);
    is_name.then_some(name)
}

/// The decoded bytes. `None` if a `%` does not begin a valid escape.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? * 16 + hex(rest.next()?)?,
            b'+' => b' ',
            _ => byte,
        });
    }
    Some(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
