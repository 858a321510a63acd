//! How a scrape ended, and whether Prometheus accepts its answer.

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};

use super::ledger;
use crate::common::error::{Abort, Blame};

/// How a scrape ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The last byte of a complete message was handed to the scraper's socket.
    Complete,
    /// The message was complete, but Prometheus does not accept it as metrics.
    Unusable(Unusable),
    /// A response of the proxy itself was sent instead of the exporter's: its status, its label,
    /// and who is to blame.
    Refused(StatusCode, &'static str, Blame),
    /// The response ended after the head and before its end.
    Aborted(Abort),
}

impl Outcome {
    /// The value of the `outcome` field of logs and of the `outcome` label of metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Complete => ledger::COMPLETE,
            Self::Unusable(Unusable::Status) => ledger::EXPORTER_STATUS,
            Self::Unusable(Unusable::ContentType) => ledger::NOT_METRICS,
            Self::Refused(_, label, _) => label,
            Self::Aborted(abort) => abort.info().label,
        }
    }
}

impl Outcome {
    /// Who is to blame for a failure; `None` if the scrape succeeded.
    #[must_use]
    pub fn blame(self) -> Option<Blame> {
        match self {
            Self::Complete => None,
            Self::Unusable(_) => Some(Blame::Upstream),
            Self::Refused(_, _, blame) => Some(blame),
            Self::Aborted(abort) => Some(abort.info().blame),
        }
    }
}

/// Why Prometheus sets `up` to 0 although the answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The status is not 200. Prometheus refuses other 2xx statuses too (`scrape.go`).
    Status,
    /// Prometheus 3 refuses the media type (`textparse.New`). Prometheus 2 reads the body as text,
    /// and fails anyway with HTML and JSON.
    ContentType,
}

impl Unusable {
    /// What makes an answer with this head unusable, and the text for the log. An answer without
    /// `Content-Type` is accepted: Prometheus 2 reads it as text, and so does Prometheus 3 with
    /// `fallback_scrape_protocol`.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap) -> Option<(Self, String)> {
        const MEDIA_TYPES: [&[u8]; 3] =
            [b"text/plain", b"application/openmetrics-text", b"application/vnd.google.protobuf"];
        if status != StatusCode::OK {
            let cause =
                format!("exporter answered {}, Prometheus accepts only 200", status.as_u16());
            return Some((Self::Status, cause));
        }
        // Prometheus uses the first value.
        let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes)?;
        let essence = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        if value.trim_ascii().is_empty()
            || MEDIA_TYPES.iter().any(|metrics| essence.eq_ignore_ascii_case(metrics))
        {
            return None;
        }
        let shown = essence[..essence.len().min(LONGEST_SHOWN)].escape_ascii();
        Some((
            Self::ContentType,
            format!("exporter's Content-Type `{shown}` is not a metrics format"),
        ))
    }
}

/// Limit for the bytes of a `Content-Type` in the log.
const LONGEST_SHOWN: usize = 80;
