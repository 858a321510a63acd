//! Which side to look at if a scrape failed, and a hint what to do.

use std::{error::Error as StdError, io};

use hyper::StatusCode;
use rustls::AlertDescription;

use super::error::Error;
use crate::{
    cli::client::{self, Answerer, Phase},
    common::error::certificate::{CertificateFault, RefusedCertificate},
};

/// What to print with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// The side where the error is.
    pub(super) side: &'static str,
    /// What to do, as an imperative sentence without a period.
    pub(super) hint: &'static str,
}

const fn advice(side: &'static str, hint: &'static str) -> Advice {
    Advice { side, hint }
}

const NETWORK: &str = "network";
const TLS: &str = "TLS";
const PROXY: &str = "proxy";
const EXPORTER: &str = "exporter";
const CLIENT: &str = "client";

impl Advice {
    pub(super) fn about(error: &Error) -> Self {
        match error {
            Error::File(_) => advice(
                CLIENT,
                "check the files given as --cert, --key, --cacert and --password-file",
            ),
            Error::ServerName(_) => advice(CLIENT, "check the host name in --url"),
            Error::OpenPassword => advice(CLIENT, "use https:// in --url"),
            Error::Output { .. } => advice(CLIENT, "write to another file with --output"),
            Error::Signals(_) | Error::Interrupted => advice(CLIENT, "run the same command again"),
            Error::SlowOutput { .. } => advice(
                CLIENT,
                "write to a local file with --output; the reader of this output is slower than the \
                 exporter",
            ),
            Error::Scrape(error) => about_scrape(error),
        }
    }
}

fn about_scrape(error: &client::Error) -> Advice {
    match error {
        client::Error::Lookup { .. } => {
            advice(NETWORK, "check the host in --url and the name resolution (DNS) of this machine")
        }
        client::Error::Connect { source, .. } => about_connect(source.kind()),
        client::Error::Path(..) => advice(CLIENT, "check the path in --url"),
        client::Error::Handshake { source, .. } => about_tls(source).unwrap_or(advice(
            TLS,
            "check that this port speaks TLS; if the proxy has `insecure-plain-http`, use http:// \
             in --url",
        )),
        client::Error::NoAnswer { is_encrypted: false, .. } => {
            advice(CLIENT, "use https:// in --url; a TLS port does not answer plain HTTP")
        }
        client::Error::NoAnswer { source, .. } => about_tls(source).unwrap_or(advice(
            PROXY,
            "read the proxy's log; the proxy closed the connection without an answer",
        )),
        client::Error::Status { status, by, .. } => match by {
            Answerer::Proxy => about_status(*status),
            Answerer::Exporter => about_exporter(*status),
            Answerer::Other(_) => {
                advice(NETWORK, "check the host and port in --url; that server is not scrapegate")
            }
        },
        client::Error::Incomplete { is_late: true, .. } => {
            advice(EXPORTER, "use a longer --timeout; the exporter had not sent everything in time")
        }
        client::Error::Incomplete { source, .. } => about_tls(source).unwrap_or(advice(
            EXPORTER,
            "see `outcome` in the proxy's log; the proxy cuts off an incomplete answer on purpose",
        )),
        client::Error::Late { phase, .. } => about_phase(phase),
    }
}

fn about_connect(kind: io::ErrorKind) -> Advice {
    let hint = if kind == io::ErrorKind::ConnectionRefused {
        "check that the proxy is running and listens on that port"
    } else {
        "check the host and port in --url, routes and firewalls"
    };
    advice(NETWORK, hint)
}

/// Which side was slow.
fn about_phase(phase: &Phase) -> Advice {
    match phase {
        Phase::Lookup { .. } => advice(NETWORK, "check the name resolution (DNS) of this machine"),
        Phase::Connect { .. } => {
            advice(NETWORK, "check the host and port in --url; a firewall may drop the packets")
        }
        Phase::Handshake { .. } => advice(
            PROXY,
            "read the proxy's log and check the port in --url; the server accepts connections but \
             does not answer",
        ),
        // The request told the proxy to give up earlier than this client.
        Phase::Head => advice(
            PROXY,
            "read the proxy's log; the proxy should have answered before this time limit",
        ),
        Phase::Body { .. } => advice(
            NETWORK,
            "use a longer --timeout; `outcome` in the proxy's log says which side was slow",
        ),
    }
}

/// A status from the proxy itself.
fn about_status(status: StatusCode) -> Advice {
    match status {
        StatusCode::BAD_GATEWAY => {
            advice(EXPORTER, "run `scrapegate probe NAME` on its host, and read the exporter's log")
        }
        StatusCode::GATEWAY_TIMEOUT => advice(
            EXPORTER,
            "use a longer --timeout, or raise `timeout` in the exporter's section; `scrapegate probe \
             NAME` on its host measures how long a scrape takes",
        ),
        StatusCode::SERVICE_UNAVAILABLE => advice(
            PROXY,
            "try again later; the reason phrase says whether the proxy is busy or shutting down",
        ),
        StatusCode::UNAUTHORIZED => advice(
            PROXY,
            "pass --user and --password-file that match `auth` in the proxy's config.ini",
        ),
        StatusCode::FORBIDDEN => {
            advice(PROXY, "use a client certificate that the proxy's `client-allow` permits")
        }
        StatusCode::NOT_FOUND => advice(
            PROXY,
            "compare the name with the list at /prometheus, and check the path in --url",
        ),
        _ => advice(PROXY, "look up this reason phrase in docs/reference/http-api.md"),
    }
}

/// A status from the exporter, forwarded by the proxy.
fn about_exporter(status: StatusCode) -> Advice {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "set `username` and `password-file`, or `bearer-token-file`, in the exporter's section"
        }
        StatusCode::NOT_FOUND => "check `path` in the exporter's section",
        _ => "read the exporter's log, and run `scrapegate probe NAME` on its host",
    };
    advice(EXPORTER, hint)
}

/// Advice about an error of rustls, anywhere in the chain of causes.
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

/// This client does not trust the proxy's certificate.
fn about_certificate(fault: &CertificateFault) -> Advice {
    match fault {
        CertificateFault::Name { .. } => advice(
            TLS,
            "use a host in --url that the proxy's certificate names, or pass --insecure",
        ),
        CertificateFault::Expired(..) => {
            advice(TLS, "renew the proxy's certificate; until then, pass --insecure")
        }
        CertificateFault::NotYetValid(..) => {
            advice(TLS, "check the clocks of both hosts; until then, pass --insecure")
        }
        CertificateFault::HandshakeSignature => advice(
            TLS,
            "check that the proxy's key has at least 2048 bits and belongs to its certificate",
        ),
        CertificateFault::Unreadable
        | CertificateFault::Version
        | CertificateFault::Algorithm
        | CertificateFault::Purpose(_)
        | CertificateFault::NameConstraints
        | CertificateFault::CriticalExtension
        | CertificateFault::Chain(_) => {
            advice(TLS, "replace the proxy's certificate; until then, pass --insecure")
        }
        CertificateFault::UnknownIssuer
        | CertificateFault::Version1BelowIntermediate
        | CertificateFault::NotACa
        | CertificateFault::Ca
        | CertificateFault::Revoked
        | CertificateFault::NoList
        | CertificateFault::ListOutOfDate(_)
        | CertificateFault::ListNotSigned => {
            advice(TLS, "pass the CA of the proxy's certificate as --cacert")
        }
    }
}

/// The proxy refused the handshake with this alert.
fn about_alert(alert: AlertDescription) -> Advice {
    let outdated = [AlertDescription::CertificateExpired, AlertDescription::CertificateRevoked];
    let nothing_in_common = [
        AlertDescription::HandshakeFailure,
        AlertDescription::InsufficientSecurity,
        AlertDescription::ProtocolVersion,
    ];
    let hint = if alert == AlertDescription::CertificateRequired {
        "pass --cert and --key; the proxy requires a client certificate"
    } else if alert == AlertDescription::UnknownCA {
        "use a client certificate of the CA in the proxy's `client-ca`; the proxy refused the one in \
         --cert"
    } else if outdated.contains(&alert) {
        "renew the client certificate; the proxy refused the one in --cert"
    } else if nothing_in_common.contains(&alert) {
        "check `tls-security-level` in the proxy's config.ini; client and proxy have no TLS version \
         or cipher suite in common"
    } else {
        "use another client certificate; the proxy's log says what is wrong with the one in --cert"
    };
    advice(TLS, hint)
}
