//! Why no response of the exporter was passed on.

use std::{io, time::Duration};

use hyper::StatusCode;

use super::{
    abort::{Abort, IntegrityFault},
    cause::Cause,
    info::{Blame, ErrorInfo, rows},
};

/// Why no response of the exporter was passed on.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The exporter's host refused the connection (`ECONNREFUSED`).
    #[error("exporter refused the connection")]
    Refused(#[source] io::Error),
    /// The Unix socket does not exist.
    #[error("exporter's socket does not exist")]
    NoSocket(#[source] io::Error),
    /// The host name could not be resolved.
    #[error("exporter's host name was not found")]
    NameLookup(#[source] io::Error),
    /// No file descriptor, thread or memory for another connection. The exporter is not to blame.
    #[error("not enough system resources to connect to the exporter")]
    NoResources(#[source] io::Error),
    /// Any other error of connecting.
    #[error("exporter is unreachable")]
    Unreachable(#[source] io::Error),
    /// Connecting, including the TLS handshake, took longer than `connect-timeout` or than the time
    /// left before the scrape's deadline. Carries the limit.
    #[error("connecting to the exporter took longer than {} s", .0.as_millis() as f64 / 1e3)]
    ConnectTimeout(Duration),
    /// The exporter's certificate is not trusted or has the wrong name, or the exporter does not
    /// speak TLS.
    #[error("exporter failed the TLS handshake")]
    Tls(#[source] io::Error),
    /// The connection was reset before the head, or before the first byte of the body.
    #[error("exporter reset the connection")]
    Reset(#[source] Cause),
    /// The connection ended before the head was complete.
    #[error("exporter closed the connection without an answer")]
    Closed,
    /// The response is not valid HTTP.
    #[error("exporter did not send valid HTTP")]
    Garbage(#[source] Cause),
    /// The response head is larger than 16 KiB.
    #[error("exporter sent a response head larger than 16 KiB")]
    HeadTooLarge,
    /// A `Transfer-Encoding` other than a single `chunked`.
    #[error("exporter sent an unsupported transfer coding")]
    TransferCoding,
    /// A redirect. scrapegate never follows redirects.
    #[error("exporter answered with a redirect")]
    Redirect,
    /// Status 101, 204, 205, 206 or 304, which cannot be a complete response with metrics.
    #[error("exporter answered with status {} instead of metrics", .0.as_u16())]
    NoMetrics(StatusCode),
    /// The whole body arrived before any of it was passed on, and the body fails the `integrity`
    /// check.
    #[error("exporter's answer {0}")]
    Integrity(IntegrityFault),
    /// The body ended before its first byte was passed on.
    #[error("exporter cut its answer short")]
    CutShort,
    /// `Content-Length` above `max-body`.
    #[error("exporter's answer is larger than max-body")]
    TooLarge,
    /// The exporter has `metrics-drop` or `metrics-keep`, and its response cannot be filtered.
    #[error("exporter's answer cannot be filtered: {0}")]
    NotFilterable(Unfilterable),
    /// The head and the first byte of the body did not arrive before the deadline.
    #[error("exporter sent no first byte in time")]
    FirstByteTimeout,
    /// The exporter sent a part of its body before the deadline, but the filter left out all of it,
    /// or the encoder still held it.
    #[error("exporter sent data in time, but no data passed the filter or the encoder")]
    NothingPassed,
}

/// Why a response cannot be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfilterable {
    /// The response has a content coding, such as gzip, although none was asked for.
    #[error("it has a content coding")]
    Encoded,
    /// The `Content-Type` is not a text format of metrics.
    #[error("its Content-Type is not a text format of metrics")]
    Type,
}

/// The row of an error that the exporter caused before its first byte was passed on.
const fn bad(reason: &'static str, label: &'static str) -> ErrorInfo {
    ErrorInfo::new(StatusCode::BAD_GATEWAY, reason, label, Blame::Upstream).of_scrapes()
}

/// The row of a deadline that passed while the proxy waited for the exporter.
const fn late(reason: &'static str, label: &'static str) -> ErrorInfo {
    ErrorInfo::new(StatusCode::GATEWAY_TIMEOUT, reason, label, Blame::Upstream).of_scrapes()
}

rows! {
    UpstreamError => ErrorInfo {
        Self::Refused(_) => bad("exporter refused the connection", "exporter_refused"),
        Self::NoSocket(_) => bad("exporter's socket does not exist", "exporter_no_socket"),
        Self::NameLookup(_) => bad("exporter's host name was not found", "exporter_name_lookup"),
        Self::NoResources(_) => ErrorInfo::no_resources("no_resources").of_scrapes(),
        Self::Unreachable(_) => bad("exporter is unreachable", "exporter_unreachable"),
        Self::ConnectTimeout(_) => late(
            "exporter did not take the connection in time",
            "exporter_connect_timeout",
        ),
        Self::Tls(_) => bad("exporter failed the TLS handshake", "exporter_tls"),
        Self::Reset(_) => bad("exporter reset the connection", "exporter_reset"),
        Self::Closed => bad(
            "exporter closed the connection without an answer",
            "exporter_closed",
        ),
        Self::Garbage(_) => bad("exporter sent no valid HTTP", "exporter_garbage"),
        Self::HeadTooLarge => bad("exporter sent too large a head", "exporter_head_too_large"),
        Self::TransferCoding => bad(
            "exporter sent an unsupported transfer coding",
            "exporter_transfer_coding",
        ),
        Self::Redirect => bad("exporter answered with a redirect", "exporter_redirect"),
        Self::NoMetrics(_) => bad("exporter answered without metrics", "exporter_no_metrics"),
        Self::Integrity(IntegrityFault::NoEofMarker) => bad(
            "exporter's answer lacks the final # EOF",
            "exporter_integrity",
        ),
        Self::Integrity(IntegrityFault::NoFinalNewline) => bad(
            "exporter's answer lacks the final newline",
            "exporter_integrity",
        ),
        Self::CutShort => bad("exporter cut its answer short", "exporter_cut_short"),
        Self::TooLarge => bad("exporter's answer is larger than max-body", "exporter_too_large"),
        Self::NotFilterable(_) => bad(
            "exporter's answer cannot be filtered",
            "exporter_not_filterable",
        ),
        Self::FirstByteTimeout => late(
            "exporter sent no first byte in time",
            "exporter_first_byte_timeout",
        ),
        Self::NothingPassed => late(
            "nothing of the exporter's answer passed in time",
            "exporter_nothing_passed",
        ),
    }
}

impl UpstreamError {
    /// The error for a body that was aborted before its first byte was passed on.
    #[must_use]
    pub fn before_first_byte(abort: Abort) -> Self {
        match abort {
            Abort::ExporterReset => Self::Reset(abort.into()),
            Abort::ExporterGarbage => Self::Garbage(abort.into()),
            Abort::TooLarge => Self::TooLarge,
            Abort::DeadlineExporter => Self::FirstByteTimeout,
            Abort::Integrity(fault) => Self::Integrity(fault),
            Abort::ExporterCutShort
            | Abort::DeadlineProxy
            | Abort::DeadlineScraper
            | Abort::ScraperStalled
            | Abort::ScraperGone
            | Abort::Shutdown
            | Abort::Panicked => Self::CutShort,
        }
    }
}
