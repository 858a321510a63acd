//! Whose fault it is that there is no whole body, and what to try.

use std::{error::Error as StdError, io};

use hyper::StatusCode;
use rustls::AlertDescription;

use super::Error;
use crate::{
    cli::client::{self, Answerer, Phase},
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
            Error::File(_) => advice(
                HERE,
                "look at the files that --cert, --key, --cacert and --password-file name",
            ),
            Error::ServerName(_) => advice(HERE, "the host name in --url"),
            Error::OpenPassword => advice(HERE, "https:// in --url"),
            Error::Output { .. } => advice(HERE, "another --output"),
            Error::Signals(_) | Error::Interrupted => advice(HERE, "the same again"),
            Error::SlowOutput { .. } => advice(
                HERE,
                "--output with a local file: what reads the body here is slower than the exporter",
            ),
            Error::Scrape(error) => about_scrape(error),
        }
    }
}

fn about_scrape(error: &client::Error) -> Advice {
    match error {
        client::Error::Lookup { .. } => {
            advice(NETWORK, "the host in --url, and this machine's name resolution (DNS)")
        }
        client::Error::Connect { source, .. } => about_connect(source.kind()),
        client::Error::Path(..) => advice(HERE, "the path in --url"),
        client::Error::Handshake { source, .. } => about_tls(source).unwrap_or(advice(
            TLS,
            "whether TLS is spoken on that port: `insecure-plain-http` wants http://",
        )),
        client::Error::NoAnswer { is_encrypted: false, .. } => {
            advice(HERE, "use https:// in --url: a port that speaks TLS does not answer plain HTTP")
        }
        client::Error::NoAnswer { source, .. } => about_tls(source).unwrap_or(advice(
            PROXY,
            "the proxy's log: it closed the connection without an answer",
        )),
        client::Error::Status { status, by, .. } => match by {
            Answerer::Proxy => about_status(*status),
            Answerer::Exporter => about_exporter(*status),
            Answerer::Other(_) => {
                advice(NETWORK, "the host and port in --url: no scrapegate answers there")
            }
        },
        client::Error::Incomplete { is_late: true, .. } => advice(
            EXPORTER,
            "a longer --timeout: the time was over before the exporter had sent everything",
        ),
        client::Error::Incomplete { source, .. } => about_tls(source).unwrap_or(advice(
            EXPORTER,
            "`outcome` in the proxy's log: an answer that is not whole is cut off on purpose",
        )),
        client::Error::Late { phase, .. } => about_phase(phase),
    }
}

fn about_connect(kind: io::ErrorKind) -> Advice {
    let hint = if kind == io::ErrorKind::ConnectionRefused {
        "whether the proxy runs, and on that port"
    } else {
        "the host and port in --url, routes and firewalls"
    };
    advice(NETWORK, hint)
}

/// Who was slow.
fn about_phase(phase: &Phase) -> Advice {
    match phase {
        Phase::Lookup { .. } => advice(NETWORK, "this machine's name resolution (DNS)"),
        Phase::Connect { .. } => {
            advice(NETWORK, "the host and port in --url; a firewall may drop the packets")
        }
        Phase::Handshake { .. } => {
            advice(PROXY, "its log, and the port in --url: it takes connections and does not speak")
        }
        // It was told to give up earlier than we did.
        Phase::Head => {
            advice(PROXY, "its log: it has to answer before this time is over, and did not")
        }
        Phase::Body { .. } => {
            advice(NETWORK, "a longer --timeout; `outcome` in the proxy's log says who was slow")
        }
    }
}

/// A status that the proxy chose.
fn about_status(status: StatusCode) -> Advice {
    match status {
        StatusCode::BAD_GATEWAY => {
            advice(EXPORTER, "`scrapegate probe NAME` on its host, and the exporter's log")
        }
        StatusCode::GATEWAY_TIMEOUT => advice(
            EXPORTER,
            "a longer --timeout, or `timeout` in its section; `scrapegate probe NAME` on its host \
             says how long it takes",
        ),
        StatusCode::SERVICE_UNAVAILABLE => {
            advice(PROXY, "later: it is busy, or shutting down, as the reason says")
        }
        StatusCode::UNAUTHORIZED => advice(
            PROXY,
            "--user and --password-file with what `auth` in the proxy's config.ini says",
        ),
        StatusCode::FORBIDDEN => advice(PROXY, "the client certificates on its `client-allow`"),
        StatusCode::NOT_FOUND => {
            advice(PROXY, "the names in its list, which is at /prometheus; and the path in --url")
        }
        _ => advice(PROXY, "the reason in docs/reference/http-api.md"),
    }
}

/// A status that the exporter chose, and the proxy passed on.
fn about_exporter(status: StatusCode) -> Advice {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "`username` and `password-file`, or `bearer-token-file`, in its section on its host"
        }
        StatusCode::NOT_FOUND => "`path` in its section on its host",
        _ => "the exporter's log, and `scrapegate probe NAME` on its host",
    };
    advice(EXPORTER, hint)
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
        | CertificateFault::Version1BelowIntermediate
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

/// Why the proxy refused the handshake.
fn about_alert(alert: AlertDescription) -> Advice {
    let outdated = [AlertDescription::CertificateExpired, AlertDescription::CertificateRevoked];
    let nothing_in_common = [
        AlertDescription::HandshakeFailure,
        AlertDescription::InsufficientSecurity,
        AlertDescription::ProtocolVersion,
    ];
    let hint = if alert == AlertDescription::CertificateRequired {
        "--cert and --key: the proxy wants a client certificate"
    } else if alert == AlertDescription::UnknownCA {
        "a client certificate of the CA in its `client-ca`: the proxy refused the one of --cert"
    } else if outdated.contains(&alert) {
        "a new client certificate: the proxy refused the one of --cert"
    } else if nothing_in_common.contains(&alert) {
        "`tls-security-level` in the proxy's config.ini: the two have no TLS version in common"
    } else {
        "another client certificate; the proxy's log says what is wrong with the one of --cert"
    };
    advice(TLS, hint)
}
