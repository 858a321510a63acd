//! Whose fault it is that there is no whole body, and what to try.

use std::{error::Error as StdError, io};

use hyper::StatusCode;
use rustls::AlertDescription;

use super::Error;
use crate::{
    cli::client,
    error::certificate::{CertificateFault, RefusedCertificate},
};

/// What to say beside an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// Where to look.
    pub(super) side: &'static str,
    /// What to try there.
    pub(super) hint: &'static str,
}

const fn advice(side: &'static str, hint: &'static str) -> Advice {
    Advice { side, hint }
}

const NETWORK: &str = "network";
const TLS: &str = "TLS";
const PROXY: &str = "proxy";
const EXPORTER: &str = "exporter";
const HERE: &str = "here";

impl Advice {
    pub(super) fn about(error: &Error) -> Self {
        match error {
            Error::File(_) => {
                advice(HERE, "look at the files that --cert, --key and --cacert name")
            }
            Error::ServerName(_) => advice(HERE, "the host name in --url"),
            Error::Output { .. } => advice(HERE, "another --output"),
            Error::Signals(_) | Error::Interrupted => advice(HERE, "the same again"),
            Error::Timeout(_) => {
                advice(NETWORK, "a longer --timeout; the proxy's log says who kept whom waiting")
            }
            Error::Scrape(error) => about_scrape(error),
        }
    }
}

fn about_scrape(error: &client::Error) -> Advice {
    match error {
        client::Error::Connect { source, .. }
            if source.kind() == io::ErrorKind::ConnectionRefused =>
        {
            advice(NETWORK, "whether the proxy runs, and on that port")
        }
        client::Error::Connect { .. } => {
            advice(NETWORK, "the host and port in --url, name resolution, firewalls")
        }
        client::Error::Path(..) => advice(HERE, "the path in --url"),
        client::Error::Handshake { source, .. } => about_tls(source).unwrap_or(advice(
            TLS,
            "whether TLS is spoken on that port: `insecure-plain-http` wants http://",
        )),
        client::Error::NoAnswer(source) => about_tls(source).unwrap_or(advice(
            PROXY,
            "the proxy's log: it closed the connection without an answer",
        )),
        client::Error::Status { status, .. } => about_status(*status),
        client::Error::Incomplete { source, .. } => about_tls(source).unwrap_or(advice(
            EXPORTER,
            "`outcome` in the proxy's log: an answer that is not whole is cut off on purpose",
        )),
    }
}

fn about_status(status: StatusCode) -> Advice {
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            advice(EXPORTER, "`scrapegate probe NAME` on its host, and the exporter's log")
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            advice(PROXY, "later: it is busy, or shutting down, as the reason says")
        }
        StatusCode::UNAUTHORIZED => {
            advice(PROXY, "without `auth` in its config.ini: this command sends no password")
        }
        StatusCode::FORBIDDEN => advice(PROXY, "the client certificates on its `client-allow`"),
        StatusCode::NOT_FOUND => {
            advice(PROXY, "the names in its list, which is at /prometheus; and the path in --url")
        }
        _ => advice(PROXY, "the reason in the README's table; an exporter's own status has no row"),
    }
}

/// What rustls says, wherever it stands in the chain of causes.
fn about_tls(error: &(dyn StdError + 'static)) -> Option<Advice> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(refused) = inner.and_then(|inner| inner.downcast_ref::<RefusedCertificate>()) {
            return Some(about_certificate(&refused.fault));
        }
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return about_rustls(error);
        }
        cause = error.source();
    }
    None
}

fn about_rustls(error: &rustls::Error) -> Option<Advice> {
    if let rustls::Error::AlertReceived(alert) = error { Some(about_alert(*alert)) } else { None }
}

/// A certificate of the proxy's that is not trusted here.
fn about_certificate(fault: &CertificateFault) -> Advice {
    match fault {
        CertificateFault::Name { .. } => {
            advice(TLS, "a host in --url that the proxy's certificate has; or --insecure")
        }
        CertificateFault::Expired(..) => {
            advice(TLS, "a new certificate for the proxy; until then, --insecure")
        }
        CertificateFault::NotYetValid(..) => {
            advice(TLS, "the clocks of both hosts; until then, --insecure")
        }
        CertificateFault::HandshakeSignature => {
            advice(TLS, "a key of at least 2048 bits for the proxy, and the one of its certificate")
        }
        CertificateFault::Unreadable
        | CertificateFault::Version
        | CertificateFault::Algorithm
        | CertificateFault::Purpose(_)
        | CertificateFault::NameConstraints
        | CertificateFault::CriticalExtension
        | CertificateFault::Chain(_) => {
            advice(TLS, "another certificate for the proxy; until then, --insecure")
        }
        CertificateFault::UnknownIssuer
        | CertificateFault::NotACa
        | CertificateFault::Ca
        | CertificateFault::Revoked
        | CertificateFault::NoList
        | CertificateFault::ListOutOfDate(_)
        | CertificateFault::ListNotSigned => {
            advice(TLS, "the CA of the proxy's certificate as --cacert")
        }
    }
}

fn about_alert(alert: AlertDescription) -> Advice {
    let outdated = [AlertDescription::CertificateExpired, AlertDescription::CertificateRevoked];
    let hint = if alert == AlertDescription::CertificateRequired {
        "--cert and --key: it wants a client certificate"
    } else if alert == AlertDescription::UnknownCA {
        "a client certificate of the CA in its `client-ca`"
    } else if outdated.contains(&alert) {
        "a new client certificate"
    } else {
        "another client certificate; the proxy's log says what is wrong with this one"
    };
    advice(TLS, hint)
}
