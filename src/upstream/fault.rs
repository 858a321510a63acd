//! hyper's errors as causes.

use std::{error::Error, io};

use crate::error::{Abort, UpstreamError};

/// An error before the head was complete.
pub(super) fn before_head(error: hyper::Error) -> UpstreamError {
    if error.is_parse_too_large() {
        return UpstreamError::HeadTooLarge;
    }
    if error.is_parse() {
        return UpstreamError::Garbage(error.into());
    }
    if error.is_incomplete_message() {
        return UpstreamError::Closed;
    }
    // In TLS 1.3 the exporter judges our certificate after the handshake, as far as we can see.
    let refusal = io_error(&error).and_then(io::Error::get_ref);
    if let Some(alert) = refusal.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return UpstreamError::Tls(io::Error::other(alert.clone()));
    }
    match io_error(&error).map(io::Error::kind) {
        Some(io::ErrorKind::UnexpectedEof) => UpstreamError::Closed,
        Some(io::ErrorKind::InvalidData) => UpstreamError::Garbage(error.into()),
        Some(_) => UpstreamError::Reset(error.into()),
        // The connection ended without a word: hyper reports the request as canceled.
        None => UpstreamError::Closed,
    }
}

/// An error in the body.
///
/// An early end is an `UnexpectedEof` below the `hyper::Error`, whose `is_incomplete_message` is
/// false there.
pub(super) fn in_body(error: &hyper::Error) -> Abort {
    match io_error(error).map(io::Error::kind) {
        Some(io::ErrorKind::UnexpectedEof) | None => Abort::ExporterCutShort,
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => Abort::ExporterGarbage,
        Some(_) => Abort::ExporterReset,
    }
}

fn io_error(error: &hyper::Error) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        source = error.source();
    }
    None
}
