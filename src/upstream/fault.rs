//! Errors of the exporter's connection as causes.

use std::io;

use crate::error::{Abort, UpstreamError};

/// An error before the head was complete.
pub(super) fn before_head(error: io::Error) -> UpstreamError {
    // In TLS 1.3 the exporter judges our certificate after the handshake, as far as we can see.
    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(alert) = refusal {
        return UpstreamError::Tls(io::Error::other(alert.clone()));
    }
    let kind = error.kind();
    if kind == io::ErrorKind::UnexpectedEof {
        // TLS without close_notify.
        UpstreamError::Closed
    } else if kind == io::ErrorKind::InvalidData {
        UpstreamError::Garbage(error.into())
    } else {
        UpstreamError::Reset(error.into())
    }
}

/// An error in the body.
pub(super) fn in_body(error: &io::Error) -> Abort {
    let kind = error.kind();
    if kind == io::ErrorKind::UnexpectedEof {
        // TLS without close_notify.
        Abort::ExporterCutShort
    } else if kind == io::ErrorKind::InvalidData {
        Abort::ExporterGarbage
    } else {
        Abort::ExporterReset
    }
}
