//! When answers of an exporter are compressed, and how.

/// A content coding that scrapegate can apply (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCoding {
    /// Zstandard (RFC 8878, RFC 9659).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

impl ContentCoding {
    /// The name in `Accept-Encoding` and `Content-Encoding`, and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// For which scrapers answers are compressed. Default: `Auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CompressFor {
    /// For none.
    Nobody,
    /// For every scraper that accepts it.
    All,
    /// For scrapers that accept it and are far away, so that bytes cost more than cycles.
    #[default]
    FarAway,
}

impl CompressFor {
    /// The value of `compression`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "off",
            Self::All => "always",
            Self::FarAway => "auto",
        }
    }
}

/// The keys `compression` and `compression-algorithms` of an exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressionRules {
    /// For which scrapers. Default `auto`.
    pub compress_for: CompressFor,
    /// The codings that may be used. If the scraper likes several equally, the first of them is
    /// used. Default `zstd, gzip`.
    pub algorithms: Vec<ContentCoding>,
}

impl Default for CompressionRules {
    fn default() -> Self {
        Self {
            compress_for: CompressFor::default(),
            algorithms: vec![ContentCoding::Zstd, ContentCoding::Gzip],
        }
    }
}
