//! Why a response failed after its head was sent.

use std::fmt;

use super::Blame;

/// Why the connection was closed in the middle of a response.
///
/// The scraper sees the close as an error: the last chunk, or bytes that `Content-Length` promised,
/// are missing, and TLS sends no close_notify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abort {
    /// The exporter's connection was reset.
    #[error("exporter reset the connection while sending the body")]
    ExporterReset,
    /// The exporter's connection ended before the end of the body.
    #[error("exporter cut its answer short")]
    ExporterCutShort,
    /// The chunked framing of the body is invalid.
    #[error("exporter sent a body with invalid chunked framing")]
    ExporterGarbage,
    /// The body is larger than `max-body` bytes.
    #[error("exporter's answer is larger than max-body")]
    TooLarge,
    /// The framing is valid, but the last bytes show that the body is incomplete (`integrity =
    /// strict`).
    #[error("exporter's answer {0}")]
    Integrity(IntegrityFault),
    /// The deadline passed while the proxy waited for the exporter.
    #[error("deadline exceeded while waiting for the exporter")]
    DeadlineExporter,
    /// The deadline passed while the proxy waited for the exporter, but a password check had used
    /// up more than a tenth of the scrape's time.
    #[error("deadline exceeded: the password check took too long")]
    DeadlineProxy,
    /// The deadline passed while the scraper did not read.
    #[error("deadline exceeded while waiting for the scraper")]
    DeadlineScraper,
    /// The scraper's socket accepted no byte for `stall-timeout`.
    #[error("scraper stopped reading")]
    ScraperStalled,
    /// The scraper closed the connection, or the proxy closed it because of what the scraper sent.
    #[error("scraper went away")]
    ScraperGone,
    /// The drain ended before the scrape was finished.
    #[error("proxy shut down")]
    Shutdown,
    /// A bug in scrapegate. Only this connection ends.
    #[error("proxy panicked")]
    Panicked,
}

/// What `integrity = strict` found missing at the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegrityFault {
    /// An OpenMetrics body whose last line is not `# EOF`.
    NoEofMarker,
    /// A body that ends when the connection closes, and whose last byte is not a newline.
    NoFinalNewline,
}

impl fmt::Display for IntegrityFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEofMarker => "is OpenMetrics without a final `# EOF`",
            Self::NoFinalNewline => "ended when the connection closed, without a final newline",
        })
    }
}

impl Abort {
    /// The labels of all variants, in their order.
    pub const LABELS: [&'static str; 12] = [
        "exporter_reset",
        "exporter_cut_short",
        "exporter_garbage",
        "too_large",
        "integrity",
        "deadline_exporter",
        "deadline_proxy",
        "deadline_scraper",
        "scraper_stalled",
        "scraper_gone",
        "shutdown",
        "panicked",
    ];

    /// Who caused the abort.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::ExporterReset
            | Self::ExporterCutShort
            | Self::ExporterGarbage
            | Self::TooLarge
            | Self::Integrity(_)
            | Self::DeadlineExporter => Blame::Upstream,
            Self::DeadlineScraper | Self::ScraperStalled | Self::ScraperGone => Blame::Downstream,
            Self::DeadlineProxy | Self::Shutdown | Self::Panicked => Blame::Proxy,
        }
    }

    /// The abort's label in logs and counters: one constant word.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ExporterReset => "exporter_reset",
            Self::ExporterCutShort => "exporter_cut_short",
            Self::ExporterGarbage => "exporter_garbage",
            Self::TooLarge => "too_large",
            Self::Integrity(_) => "integrity",
            Self::DeadlineExporter => "deadline_exporter",
            Self::DeadlineProxy => "deadline_proxy",
            Self::DeadlineScraper => "deadline_scraper",
            Self::ScraperStalled => "scraper_stalled",
            Self::ScraperGone => "scraper_gone",
            Self::Shutdown => "shutdown",
            Self::Panicked => "panicked",
        }
    }
}
