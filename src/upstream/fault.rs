//! Maps I/O errors of the connection to the exporter to their causes.

use std::io;

use crate::common::error::{Abort, UpstreamError};

/// The cause of an error before the response head was complete.
pub(super) fn before_head(error: io::Error) -> UpstreamError {
    // In TLS 1.3, the exporter verifies our certificate after the handshake is complete on our
    // side.
    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(alert) = refusal {
        return UpstreamError::Tls(io::Error::other(alert.clone()));
    }
    let kind = error.kind();
    if kind == io::ErrorKind::UnexpectedEof {
        // TLS ended without close_notify.
        UpstreamError::Closed
    } else if kind == io::ErrorKind::InvalidData {
        UpstreamError::Garbage(error.into())
    } else {
        UpstreamError::Reset(error.into())
    }
}

/// The cause of an error in the body.
pub(super) fn in_body(error: &io::Error) -> Abort {
    let kind = error.kind();
    if kind == io::ErrorKind::UnexpectedEof {
        // TLS ended without close_notify.
        Abort::ExporterCutShort
    } else if kind == io::ErrorKind::InvalidData {
        Abort::ExporterGarbage
    } else {
        Abort::ExporterReset
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::common::error::Refusal;

    #[test]
    fn errors_have_the_same_causes_before_the_head_and_in_the_body() {
        for (kind, before, during) in [
            (ErrorKind::UnexpectedEof, "exporter_closed", Abort::ExporterCutShort),
            (ErrorKind::InvalidData, "exporter_garbage", Abort::ExporterGarbage),
            (ErrorKind::ConnectionReset, "exporter_reset", Abort::ExporterReset),
            (ErrorKind::BrokenPipe, "exporter_reset", Abort::ExporterReset),
        ] {
            assert_eq!(Refusal::from(before_head(kind.into())).info().label, before);
            assert_eq!(in_body(&kind.into()), during);
        }
    }
}
