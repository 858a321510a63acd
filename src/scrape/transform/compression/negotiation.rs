//! Chooses a content coding by the scraper's `Accept-Encoding` (RFC 9110 §12.5.3). Pure.

use hyper::header::{ACCEPT_ENCODING, HeaderMap};

use crate::common::compression::ContentCoding;

/// A weight in thousandths: 0 (not acceptable) to 1000.
type Weight = u16;

/// What a scraper accepts.
#[derive(Debug, Default)]
struct Accepted {
    zstd: Option<Weight>,
    gzip: Option<Weight>,
    identity: Option<Weight>,
    /// `*`: any coding that is not listed.
    any: Option<Weight>,
}

/// The coding that the scraper prefers among `algorithms`. If it prefers several equally, the first
/// of them. `None` if it accepts none of them, or prefers the answer unencoded.
///
/// Without the header every coding is acceptable (RFC 9110 §12.5.3, item 1), but nobody asked for
/// one.
pub(super) fn choose(headers: &HeaderMap, algorithms: &[ContentCoding]) -> Option<ContentCoding> {
    if !headers.contains_key(ACCEPT_ENCODING) {
        return None;
    }
    let accepted = Accepted::of(headers);
    let identity = accepted.identity.unwrap_or_default();
    let mut best: Option<(ContentCoding, Weight)> = None;
    for &coding in algorithms {
        let weight = accepted.weight(coding);
        if weight > 0 && weight >= identity && best.is_none_or(|(_, most)| weight > most) {
            best = Some((coding, weight));
        }
    }
    best.map(|(coding, _)| coding)
}

impl Accepted {
    fn of(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        for value in headers.get_all(ACCEPT_ENCODING) {
            for element in value.as_bytes().split(|&byte| byte == b',') {
                accepted.add(element);
            }
        }
        accepted
    }

    /// Adds one element of the list. If a coding is listed twice, the first weight counts. A
    /// malformed weight is the weight 0: what cannot be read is not asked for.
    fn add(&mut self, element: &[u8]) {
        let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let place = if is("zstd") {
            &mut self.zstd
        } else if is("gzip") || is("x-gzip") {
            &mut self.gzip
        } else if is("identity") {
            &mut self.identity
        } else if is("*") {
            &mut self.any
        } else {
            return;
        };
        let weight = match (parts.next(), parts.next()) {
            (None, _) => 1000,
            (Some(parameter), None) => weight(parameter).unwrap_or_default(),
            (Some(_), Some(_)) => 0,
        };
        place.get_or_insert(weight);
    }

    fn weight(&self, coding: ContentCoding) -> Weight {
        let listed = match coding {
            ContentCoding::Zstd => self.zstd,
            ContentCoding::Gzip => self.gzip,
        };
        listed.or(self.any).unwrap_or_default()
    }
}

/// The value of `q=VALUE`: `0`, `1`, or a decimal between them with at most three digits after the
/// point (RFC 9110 §12.4.2).
fn weight(parameter: &[u8]) -> Option<Weight> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else {
        return None;
    };
    let (whole, digits) = match value {
        [whole @ (b'0' | b'1')] => (*whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] => (*whole, digits),
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths = [100, 10, 1];
    let fraction: Weight =
        digits.iter().zip(thousandths).map(|(digit, unit)| Weight::from(digit - b'0') * unit).sum();
    match (whole, fraction) {
        (b'0', fraction) => Some(fraction),
        (_, 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ContentCoding::{Gzip, Zstd};
    use hyper::header::HeaderValue;

    use super::*;

    fn chosen(lines: &[&'static str], algorithms: &[ContentCoding]) -> Option<ContentCoding> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_static(line));
        }
        choose(&headers, algorithms)
    }

    #[test]
    fn the_scrapers_preference_wins_then_the_order_of_the_configuration() {
        let both = [Zstd, Gzip];
        for (accepts, expected) in [
            // Prometheus and Go, curl, browsers.
            ("gzip", Some(Gzip)),
            ("deflate, gzip, br, zstd", Some(Zstd)),
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("zstd;q=0.5, gzip", Some(Gzip)),
            ("zstd;q=0.5, gzip;q=0.499", Some(Zstd)),
            ("gzip;q=0.001", Some(Gzip)),
            ("GZIP", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("X-GZip;Q=1.000", Some(Gzip)),
            (" gzip ; q=0.5 ,\tzstd\t;\tq=0.7 ", Some(Zstd)),
            (",,gzip,,", Some(Gzip)),
            // Any coding.
            ("*", Some(Zstd)),
            ("*;q=0.1", Some(Zstd)),
            ("zstd;q=0, *", Some(Gzip)),
            ("gzip, *;q=0", Some(Gzip)),
            ("gzip;q=0.2, *;q=0.1", Some(Gzip)),
            ("*;q=0", None),
            // The unencoded answer.
            ("identity", None),
            ("identity;q=0", None),
            ("identity;q=0, gzip", Some(Gzip)),
            ("identity, gzip", Some(Gzip)),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.4, gzip;q=0.5", Some(Gzip)),
            // Not acceptable, or not known.
            ("", None),
            ("gzip;q=0", None),
            ("gzip;q=0.000, zstd;q=0.0", None),
            ("br, deflate, compress", None),
            ("gzipped, xgzip, zst", None),
            // The first of two.
            ("gzip;q=0, x-gzip", None),
            // Malformed weights.
            ("gzip;q=", None),
            ("gzip;q=2", None),
            ("gzip;q=1.001", None),
            ("gzip;q=0.1234", None),
            ("gzip;q=.5", None),
            ("gzip;q=-1", None),
            ("gzip;q = 1", None),
            ("gzip;level=1", None),
            ("gzip;q=1;q=1", None),
            ("gzip;q=0.", None),
        ] {
            assert_eq!(chosen(&[accepts], &both), expected, "{accepts:?}");
        }
    }

    #[test]
    fn only_algorithms_of_the_configuration_are_chosen_and_their_order_breaks_a_tie() {
        for (algorithms, expected) in [
            (&[Zstd, Gzip][..], Some(Zstd)),
            (&[Gzip, Zstd], Some(Gzip)),
            (&[Gzip], Some(Gzip)),
            (&[Zstd], Some(Zstd)),
        ] {
            assert_eq!(chosen(&["gzip, zstd"], algorithms), expected, "{algorithms:?}");
            assert_eq!(chosen(&["*"], algorithms), expected, "{algorithms:?}");
        }
        assert_eq!(chosen(&["gzip;q=1, zstd;q=0.9"], &[Zstd]), Some(Zstd));
        assert_eq!(chosen(&["gzip"], &[Zstd]), None);
    }

    #[test]
    fn nothing_is_chosen_without_the_header_and_several_lines_are_one_list() {
        assert_eq!(chosen(&[], &[Zstd, Gzip]), None);
        assert_eq!(chosen(&["br", "zstd;q=0.1, gzip;q=0.2"], &[Zstd, Gzip]), Some(Gzip));
    }
}
