//! The content coding of an answer, as a word for logs and metrics.

use hyper::header::{CONTENT_ENCODING, HeaderMap};

/// The content coding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// The answer is not encoded.
    Identity,
    /// zstd.
    Zstd,
    /// gzip.
    Gzip,
    /// Any other coding of the exporter's, or several.
    Other,
}

impl Encoding {
    /// All encodings.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Zstd, Self::Gzip, Self::Other];

    /// The encoding of the answer with these headers.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::Identity;
        for value in headers.get_all(CONTENT_ENCODING) {
            for name in value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
                let encoding = match () {
                    () if name.is_empty() || is("identity") => continue,
                    () if is("zstd") => Self::Zstd,
                    () if is("gzip") || is("x-gzip") => Self::Gzip,
                    () => Self::Other,
                };
                found = if found == Self::Identity { encoding } else { Self::Other };
            }
        }
        found
    }

    /// The value of the `encoding` label of metrics and of the `encoding` field of logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn an_encoding_is_one_known_coding_or_other() {
        for (lines, encoding) in [
            (&[][..], Encoding::Identity),
            (&["identity"], Encoding::Identity),
            (&[""], Encoding::Identity),
            (&["GZIP"], Encoding::Gzip),
            (&["x-gzip"], Encoding::Gzip),
            (&["identity, zstd"], Encoding::Zstd),
            (&["deflate"], Encoding::Other),
            (&["gzip, gzip"], Encoding::Other),
            (&["gzip", "zstd"], Encoding::Other),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(line));
            }
            assert_eq!(Encoding::of(&headers), encoding, "{lines:?}");
        }
    }
}
