//! Why a response failed after its head was sent.

use super::info::{
    AbortInfo,
    Blame::{self, Downstream, Proxy, Upstream},
    rows,
};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntegrityFault {
    /// An OpenMetrics body whose last line is not `# EOF`.
    #[error("is OpenMetrics without a final `# EOF`")]
    NoEofMarker,
    /// A body that ends when the connection closes, and whose last byte is not a newline.
    #[error("ended when the connection closed, without a final newline")]
    NoFinalNewline,
}

const fn row(label: &'static str, blame: Blame) -> AbortInfo {
    AbortInfo { label, blame }
}

rows! {
    Abort => AbortInfo {
        Self::ExporterReset => row("exporter_reset", Upstream),
        Self::ExporterCutShort => row("exporter_cut_short", Upstream),
        Self::ExporterGarbage => row("exporter_garbage", Upstream),
        Self::TooLarge => row("too_large", Upstream),
        Self::Integrity(_) => row("integrity", Upstream),
        Self::DeadlineExporter => row("deadline_exporter", Upstream),
        Self::DeadlineProxy => row("deadline_proxy", Proxy),
        Self::DeadlineScraper => row("deadline_scraper", Downstream),
        Self::ScraperStalled => row("scraper_stalled", Downstream),
        Self::ScraperGone => row("scraper_gone", Downstream),
        Self::Shutdown => row("shutdown", Proxy),
        Self::Panicked => row("panicked", Proxy),
    }
}
