//! Why a response ended after its head.

use std::fmt;

use super::Blame;

/// Each ends the connection so that the scraper does not take the response for a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abort {
    /// The exporter's connection was reset.
    #[error("exporter reset the connection while sending the body")]
    ExporterReset,
    /// The exporter's connection ended inside the body.
    #[error("exporter cut its answer short")]
    ExporterCutShort,
    /// Broken chunk framing.
    #[error("exporter sent a body with invalid chunked framing")]
    ExporterGarbage,
    /// More than `max-body` bytes.
    #[error("exporter's answer is larger than max-body")]
    TooLarge,
    /// Framed well, but its last bytes say that it is not whole (`integrity = strict`).
    #[error("exporter's answer {0}")]
    Integrity(IntegrityFault),
    /// The deadline passed while the exporter was awaited.
    #[error("deadline exceeded while waiting for the exporter")]
    DeadlineExporter,
    /// The deadline passed while the exporter was awaited, but a password check had used up more
    /// than a tenth of the scrape's time.
    #[error("deadline exceeded: the password check took too long")]
    DeadlineProxy,
    /// The deadline passed while the scraper did not read.
    #[error("deadline exceeded while waiting for the scraper")]
    DeadlineScraper,
    /// The scraper's socket took no byte for `stall-timeout`.
    #[error("scraper stopped reading")]
    ScraperStalled,
    /// The scraper's connection ended, or it was closed because of what it sent.
    #[error("scraper went away")]
    ScraperGone,
    /// The drain ended before the scrape did.
    #[error("proxy shut down")]
    Shutdown,
    /// A mistake in scrapegate, which ends the connection and no other.
    #[error("proxy panicked")]
    Panicked,
}

/// What `integrity = strict` missed at the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegrityFault {
    /// OpenMetrics whose last line is not `# EOF`.
    NoEofMarker,
    /// A body that ends with the connection, not with a newline.
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
    /// The words of all of them.
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

    /// Who caused it.
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

    /// One constant word for logs and counters.
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
