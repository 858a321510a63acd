//! Why a request to `/autotls` fails, or a request to another path before the host is enrolled.

use std::{io, time::Duration};

use hyper::StatusCode;

use super::{
    cause::Cause,
    info::{
        Blame::{self, Downstream, Proxy},
        ErrorInfo, rows,
    },
};

/// Why an enrollment request failed. Each error closes the connection. No file has changed, except
/// possibly after [`EnrolError::Store`].
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A path other than `/autotls` while the host has no certificate.
    #[error("this host is not enrolled yet; it serves only /autotls")]
    NotEnrolled,
    /// The client's address is not in `enrol-from`, or `enrol-window` is over.
    #[error("`enrol-from` or `enrol-window` does not allow enrollment by this client")]
    Closed,
    /// A renewal without mutual TLS (`client-auth = none`).
    #[error("renewal requires a client certificate")]
    NoClientCertificate,
    /// `domain` is repeated, not UTF-8, or neither a host name nor an IP address.
    #[error("the domain parameter is repeated, or neither a host name nor an IP address")]
    Domain,
    /// The client lost its authorization in a reload while its body was read, or while it waited
    /// for earlier requests.
    #[error("the client lost its authorization while its request was read")]
    Dismissed,
    /// Earlier requests, such as one that generates the key, did not finish in time. Carries how
    /// long this request waited.
    #[error("earlier signing requests took longer than {} s", .0.as_secs_f64())]
    Busy(Duration),
    /// A `POST` without `Content-Length`.
    #[error("the request body has no Content-Length")]
    NoLength,
    /// The body is larger than the limit. Carries the limit in bytes.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(u64),
    /// The body was not complete in time. Carries the limit, counted from the end of the request
    /// head.
    #[error("the request body was not complete within {} s", .0.as_secs_f64())]
    BodyTimeout(Duration),
    /// The body ended early.
    #[error("the request body ended early")]
    BodyLost(#[source] Cause),
    /// The body is not a JSON object with the strings `signed` and `ca`.
    #[error("the request body is not a JSON object with `signed` and `ca`")]
    Malformed(#[source] Cause),
    /// A member of the body contains no certificate, or one that cannot be read. Carries the
    /// member's name and the problem.
    #[error("`{0}` cannot be used: {1}")]
    Unreadable(&'static str, String),
    /// The certificate is for another key, or this host has no key yet.
    #[error("the certificate does not belong to this host's key")]
    WrongKey,
    /// No chain of valid signatures leads from the certificate to the CA.
    #[error("the certificate does not chain to the CA")]
    WrongCa,
    /// The certificate or its CA is expired or not yet valid.
    #[error("the certificate or its CA is not valid now")]
    NotValidNow,
    /// The TLS server cannot use the certificate or the CA, for example because of a critical
    /// extension.
    #[error("TLS cannot use the certificate or its CA")]
    Unusable(#[source] Cause),
    /// A renewal with another CA, from a client that did not present the current CA certificate.
    #[error("only a client that presents the current CA certificate may change the CA")]
    ForeignCa,
    /// A renewal with a certificate that is older than the current one, from a client that did not
    /// present the CA certificate.
    #[error("only a client that presents the CA certificate may store an older certificate")]
    Older,
    /// A first enrollment, but the host has a certificate by now.
    #[error("this host already has a certificate")]
    AlreadyEnrolled,
    /// The host's key cannot be read or generated.
    #[error("the key cannot be read or generated")]
    Key(#[source] Cause),
    /// The certificate files cannot be read or written.
    #[error("the certificate cannot be stored")]
    Store(#[source] io::Error),
    /// The system refused a thread for the work.
    #[error("not enough system resources for the enrollment request")]
    NoResources(#[source] Cause),
    /// The thread that processed the request panicked.
    #[error("the enrollment was abandoned")]
    GivenUp,
}

/// The row of an error that closes the connection, as all enrollment errors do.
const fn row(
    status: StatusCode,
    reason: &'static str,
    label: &'static str,
    blame: Blame,
) -> ErrorInfo {
    ErrorInfo::new(status, reason, label, blame).and_close()
}

/// The row of an error in the request: 400.
const fn bad(reason: &'static str, label: &'static str) -> ErrorInfo {
    row(StatusCode::BAD_REQUEST, reason, label, Downstream)
}

/// The row of a client without the right to its request: 403.
const fn forbidden(reason: &'static str, label: &'static str) -> ErrorInfo {
    row(StatusCode::FORBIDDEN, reason, label, Downstream)
}

/// The row of a failure of this host: 500.
const fn failed(label: &'static str) -> ErrorInfo {
    row(StatusCode::INTERNAL_SERVER_ERROR, "enrollment failed on this host", label, Proxy)
}

rows! {
    EnrolError => ErrorInfo {
        Self::NotEnrolled => forbidden("not enrolled yet", "not_enrolled"),
        Self::Closed => forbidden("enrollment is not open to you", "enrol_closed"),
        Self::NoClientCertificate => forbidden(
            "client certificate required",
            "enrol_no_client_certificate",
        ),
        Self::Domain => bad("bad domain parameter", "enrol_domain"),
        Self::Dismissed => forbidden("client is no longer let in", "enrol_dismissed"),
        Self::Busy(_) => row(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many signing requests", "enrol_busy", Proxy,
        ),
        Self::NoLength => row(
            StatusCode::LENGTH_REQUIRED,
            "Length Required", "enrol_no_length", Downstream,
        ),
        Self::TooLarge(_) => row(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request body too large", "enrol_too_large", Downstream,
        ),
        Self::BodyTimeout(_) => row(
            StatusCode::REQUEST_TIMEOUT,
            "request body came too slowly", "enrol_body_timeout", Downstream,
        ),
        Self::BodyLost(_) => bad("request body broke off", "enrol_body_lost"),
        Self::Malformed(_) => bad("request body is not signed and ca", "enrol_malformed"),
        Self::Unreadable(..) => bad("certificate or CA is not readable", "enrol_unreadable"),
        Self::WrongKey => bad("certificate is for another key", "enrol_wrong_key"),
        Self::WrongCa => bad("certificate is not of that CA", "enrol_wrong_ca"),
        Self::NotValidNow => bad("certificate or CA is not valid now", "enrol_not_valid_now"),
        Self::Unusable(_) => bad("certificate or CA cannot be used", "enrol_unusable"),
        Self::ForeignCa => forbidden("CA may not be changed by this client", "enrol_foreign_ca"),
        Self::Older => row(
            StatusCode::CONFLICT,
            "a newer certificate is in use", "enrol_older", Downstream,
        ),
        Self::AlreadyEnrolled => row(
            StatusCode::CONFLICT,
            "already enrolled", "enrol_already", Downstream,
        ),
        Self::Key(_) => failed("enrol_key"),
        Self::Store(_) => failed("enrol_store"),
        Self::NoResources(_) => ErrorInfo::no_resources("enrol_no_resources").and_close(),
        Self::GivenUp => failed("enrol_given_up"),
    }
}
