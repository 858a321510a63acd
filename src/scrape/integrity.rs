//! Checks whether the last bytes of a body show that the body is complete.
//!
//! Prometheus appends a newline to the body, and would store a value that was cut in half: if
//! `foo 1234` is cut after `foo 12`, version 2.42 stores 12 and sets `up` to 1.

use hyper::header::{CONTENT_TYPE, HeaderMap};

use super::encoding::Encoding;
use crate::{
    common::{error::IntegrityFault, exporter::Integrity},
    upstream::{Framing, UpstreamHead},
};

/// The last line of OpenMetrics. The grammar ends with `eof [ LF ]`, so the line feed is optional.
const EOF_MARKER: &[u8] = b"# EOF";

/// Number of bytes that tell whether a body ends with [`EOF_MARKER`] on a line of its own.
const TAIL: usize = EOF_MARKER.len() + 2;

/// Keeps the last bytes of a body, and checks them when the body ends.
#[derive(Debug)]
pub(super) struct TailCheck {
    rule: Rule,
    tail: [u8; TAIL],
    /// Number of bytes of `tail` that belong to the body, counted from the end of `tail`.
    seen: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The framing of the message is sufficient.
    Framing,
    /// A body without framing, which ends with the connection, must end with a line feed.
    FinalNewline,
    /// OpenMetrics must end with the marker.
    EofMarker,
}

impl TailCheck {
    /// Chooses the check for the body that follows `head`, by the exporter's `integrity` rule.
    #[must_use]
    pub(super) fn new(integrity: Integrity, head: &UpstreamHead) -> Self {
        // Prometheus looks only at the status of an unsuccessful answer.
        let rule = if integrity == Integrity::Transport
            || !head.status.is_success()
            || is_encoded(&head.headers)
            || head.framing == Framing::Bodiless
        {
            Rule::Framing
        } else if is_openmetrics(&head.headers) {
            Rule::EofMarker
        } else if head.framing == Framing::UntilClose {
            Rule::FinalNewline
        } else {
            Rule::Framing
        };
        Self { rule, tail: [0; TAIL], seen: 0 }
    }

    /// Adds the next bytes of the body.
    pub(super) fn update(&mut self, data: &[u8]) {
        if self.rule == Rule::Framing {
            return;
        }
        let keep = self.tail.len();
        if let Some(last) = data.last_chunk() {
            self.tail = *last;
        } else {
            self.tail.rotate_left(data.len());
            self.tail[keep - data.len()..].copy_from_slice(data);
        }
        self.seen = keep.min(self.seen.saturating_add(data.len()));
    }

    /// Checks whether all bytes so far can be a complete body.
    ///
    /// # Errors
    ///
    /// What the last bytes lack.
    pub(super) fn verdict(&self) -> Result<(), IntegrityFault> {
        let tail = &self.tail[self.tail.len() - self.seen..];
        match self.rule {
            Rule::Framing => Ok(()),
            Rule::FinalNewline if tail.ends_with(b"\n") => Ok(()),
            Rule::FinalNewline => Err(IntegrityFault::NoFinalNewline),
            Rule::EofMarker if ends_with_marker(tail) => Ok(()),
            Rule::EofMarker => Err(IntegrityFault::NoEofMarker),
        }
    }
}

/// Whether `tail` ends with the marker on a line of its own: after a line feed, or at the start of
/// the body. Inside a label value (`foo{a="# EOF`) the marker is part of a body that was cut.
fn ends_with_marker(tail: &[u8]) -> bool {
    let unterminated = tail.strip_suffix(b"\n").unwrap_or(tail);
    unterminated
        .strip_suffix(EOF_MARKER)
        .is_some_and(|before| before.is_empty() || before.ends_with(b"\n"))
}

/// Whether the body has a content coding other than `identity`.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    Encoding::of(headers) != Encoding::Identity
}

/// Whether `Content-Type` is OpenMetrics.
#[must_use]
pub fn is_openmetrics(headers: &HeaderMap) -> bool {
    const OPENMETRICS: &[u8] = b"application/openmetrics-text";
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| media_type(value.as_bytes()).eq_ignore_ascii_case(OPENMETRICS))
}

/// The media type without its parameters.
pub(super) fn media_type(value: &[u8]) -> &[u8] {
    value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use hyper::StatusCode;

    use super::*;

    fn verdict(
        integrity: Integrity,
        headers: &[(&'static str, &'static str)],
        framing: Framing,
        body: &str,
        split: usize,
    ) -> Result<(), IntegrityFault> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let head = UpstreamHead { status: StatusCode::OK, headers, framing, length_ignored: false };
        let mut check = TailCheck::new(integrity, &head);
        for piece in body.as_bytes().chunks(split) {
            check.update(piece);
        }
        check.verdict()
    }

    #[test]
    fn f19_openmetrics_must_end_with_the_eof_marker_on_its_own_line() {
        const OPENMETRICS: (&str, &str) =
            ("content-type", "Application/OpenMetrics-Text; version=1.0.0; charset=utf-8");
        for split in 1..9 {
            for framing in [Framing::Chunked, Framing::Length(7), Framing::UntilClose] {
                let judge = |body| verdict(Integrity::Strict, &[OPENMETRICS], framing, body, split);
                for whole in ["a 1\n# EOF\n", "# EOF\n", "a 1\n# EOF", "# EOF", "\n# EOF"] {
                    assert_eq!(judge(whole), Ok(()), "{whole:?}");
                }
                for bad in [
                    "",
                    "a 1\n",
                    "a 1\n# EO",
                    "a 1\n# EOF\n\n",
                    "a 1\n# EOF\r\n",
                    " EOF\n",
                    "# EOF\na 1\n",
                    " # EOF",
                    "x# EOF\n",
                    "foo{a=\"# EOF",
                    "foo{a=\"# EOF\n",
                    "foo{a=\"x\\n# EOF",
                ] {
                    assert_eq!(judge(bad), Err(IntegrityFault::NoEofMarker), "{bad:?}");
                }
            }
        }
    }

    #[test]
    fn a_body_without_framing_must_end_with_a_newline() {
        let text = ("content-type", "text/plain; version=0.0.4");
        for split in 1..9 {
            let judge = |framing, body| verdict(Integrity::Strict, &[text], framing, body, split);
            assert_eq!(judge(Framing::UntilClose, "foo 1234\n"), Ok(()));
            for bad in ["", "foo 12", "foo 1234\nbar"] {
                assert_eq!(judge(Framing::UntilClose, bad), Err(IntegrityFault::NoFinalNewline));
                assert_eq!(judge(Framing::Chunked, bad), Ok(()));
                assert_eq!(judge(Framing::Length(1), bad), Ok(()));
            }
        }
    }

    #[test]
    fn encoded_bodies_and_integrity_transport_are_checked_by_framing_only() {
        let openmetrics = ("content-type", "application/openmetrics-text");
        let gzip = ("content-encoding", "gzip");
        let identity = ("content-encoding", "identity");
        let close = Framing::UntilClose;
        assert_eq!(verdict(Integrity::Strict, &[openmetrics, gzip], close, "x", 1), Ok(()));
        assert_eq!(verdict(Integrity::Transport, &[openmetrics], close, "x", 1), Ok(()));
        assert_eq!(
            verdict(Integrity::Strict, &[openmetrics, identity], close, "x", 1),
            Err(IntegrityFault::NoEofMarker)
        );
    }
}
