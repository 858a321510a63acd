//! Why a request to `/autotls` fails, or a request to another path before the host is enrolled.

use std::{io, time::Duration};

use hyper::StatusCode;

use super::{Blame, Cause};

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

impl EnrolError {
    /// The labels of all variants, in their order.
    pub const LABELS: [&str; 23] = [
        "not_enrolled",
        "enrol_closed",
        "enrol_no_client_certificate",
        "enrol_domain",
        "enrol_dismissed",
        "enrol_busy",
        "enrol_no_length",
        "enrol_too_large",
        "enrol_body_timeout",
        "enrol_body_lost",
        "enrol_malformed",
        "enrol_unreadable",
        "enrol_wrong_key",
        "enrol_wrong_ca",
        "enrol_not_valid_now",
        "enrol_unusable",
        "enrol_foreign_ca",
        "enrol_older",
        "enrol_already",
        "enrol_key",
        "enrol_store",
        "enrol_no_resources",
        "enrol_given_up",
    ];

    pub(super) fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotEnrolled => (StatusCode::FORBIDDEN, "not enrolled yet"),
            Self::Closed => (StatusCode::FORBIDDEN, "enrollment is not open to you"),
            Self::NoClientCertificate => (StatusCode::FORBIDDEN, "client certificate required"),
            Self::Domain => (StatusCode::BAD_REQUEST, "bad domain parameter"),
            Self::Dismissed => (StatusCode::FORBIDDEN, "client is no longer let in"),
            Self::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "too many signing requests"),
            Self::NoLength => (StatusCode::LENGTH_REQUIRED, "Length Required"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "request body too large"),
            Self::BodyTimeout(_) => (StatusCode::REQUEST_TIMEOUT, "request body came too slowly"),
            Self::BodyLost(_) => (StatusCode::BAD_REQUEST, "request body broke off"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "request body is not signed and ca"),
            Self::Unreadable(..) => (StatusCode::BAD_REQUEST, "certificate or CA is not readable"),
            Self::WrongKey => (StatusCode::BAD_REQUEST, "certificate is for another key"),
            Self::WrongCa => (StatusCode::BAD_REQUEST, "certificate is not of that CA"),
            Self::NotValidNow => (StatusCode::BAD_REQUEST, "certificate or CA is not valid now"),
            Self::Unusable(_) => (StatusCode::BAD_REQUEST, "certificate or CA cannot be used"),
            Self::ForeignCa => (StatusCode::FORBIDDEN, "CA may not be changed by this client"),
            Self::Older => (StatusCode::CONFLICT, "a newer certificate is in use"),
            Self::AlreadyEnrolled => (StatusCode::CONFLICT, "already enrolled"),
            Self::NoResources(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "proxy is out of file descriptors, threads or memory",
            ),
            Self::Key(_) | Self::Store(_) | Self::GivenUp => {
                (StatusCode::INTERNAL_SERVER_ERROR, "enrollment failed on this host")
            }
        }
    }

    pub(super) fn blame(&self) -> Blame {
        match self {
            Self::NotEnrolled
            | Self::Closed
            | Self::NoClientCertificate
            | Self::Domain
            | Self::Dismissed
            | Self::NoLength
            | Self::TooLarge(_)
            | Self::BodyTimeout(_)
            | Self::BodyLost(_)
            | Self::Malformed(_)
            | Self::Unreadable(..)
            | Self::WrongKey
            | Self::WrongCa
            | Self::NotValidNow
            | Self::Unusable(_)
            | Self::ForeignCa
            | Self::Older
            | Self::AlreadyEnrolled => Blame::Downstream,
            Self::Busy(_)
            | Self::Key(_)
            | Self::Store(_)
            | Self::NoResources(_)
            | Self::GivenUp => Blame::Proxy,
        }
    }

    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::NotEnrolled => "not_enrolled",
            Self::Closed => "enrol_closed",
            Self::NoClientCertificate => "enrol_no_client_certificate",
            Self::Domain => "enrol_domain",
            Self::Dismissed => "enrol_dismissed",
            Self::Busy(_) => "enrol_busy",
            Self::NoLength => "enrol_no_length",
            Self::TooLarge(_) => "enrol_too_large",
            Self::BodyTimeout(_) => "enrol_body_timeout",
            Self::BodyLost(_) => "enrol_body_lost",
            Self::Malformed(_) => "enrol_malformed",
            Self::Unreadable(..) => "enrol_unreadable",
            Self::WrongKey => "enrol_wrong_key",
            Self::WrongCa => "enrol_wrong_ca",
            Self::NotValidNow => "enrol_not_valid_now",
            Self::Unusable(_) => "enrol_unusable",
            Self::ForeignCa => "enrol_foreign_ca",
            Self::Older => "enrol_older",
            Self::AlreadyEnrolled => "enrol_already",
            Self::Key(_) => "enrol_key",
            Self::Store(_) => "enrol_store",
            Self::NoResources(_) => "enrol_no_resources",
            Self::GivenUp => "enrol_given_up",
        }
    }
}
