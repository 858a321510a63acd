//! States for unit tests.

use std::{num::NonZeroU32, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::*;
use crate::{
    common::{deadline::Budget, reload::ReloadRequests, shutdown::ShutdownPhase},
    config::{Scheme, TlsLevel},
    http::{access::Access, discovery::ProxyEndpoint},
    scrape::transform::TransformRules,
    tls::{Clients, server_tls},
    upstream::Connector,
};

/// A state without exporters, and without a status page.
pub(in crate::downstream) fn serving(mode: ListenerMode) -> ServingState {
    let budget = Budget::new(Duration::from_secs(60)).expect("within the limits");
    let limits = Limits {
        handshake_timeout: budget,
        header_timeout: budget,
        idle_timeout: budget,
        stall_timeout: budget,
        drain_timeout: budget,
        max_connections: NonZeroU32::MAX,
        max_handshakes: NonZeroU32::MAX,
        max_connections_per_ip: NonZeroU32::MAX,
    };
    ServingState { mode, service: Arc::new(service(false)), limits }
}

/// The same state with a status page.
pub(in crate::downstream) fn with_status_page(mode: ListenerMode) -> ServingState {
    ServingState { service: Arc::new(service(true)), ..serving(mode) }
}

fn service(status_page: bool) -> AppState {
    AppState {
        exporters: None,
        access: Access::default(),
        enrolment: None,
        connector: Connector::other(|_| Err(std::io::ErrorKind::ConnectionRefused.into())),
        transforms: TransformRules::default(),
        scrape_timeout_offset: Duration::ZERO,
        proxy_endpoint: ProxyEndpoint { scheme: Scheme::Https, advertised: None },
        status_page,
        answers: Arc::default(),
        metrics: Arc::default(),
        reload: ReloadRequests::default(),
        http_reload: false,
        shutdown: watch::Sender::new(ShutdownPhase::Serving).subscribe(),
    }
}

/// A TLS server with a new certificate, which is a CA. If there is `end_of_ca`, in seconds since 1970,
/// the CA is valid until then, and the clients need a certificate of it.
pub(in crate::downstream) fn tls(end_of_ca: Option<i64>) -> ServerTls {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    if let Some(end) = end_of_ca {
        params.not_after = OffsetDateTime::from_unix_timestamp(end).expect("a time");
    }
    let certificate = params.self_signed(&key).expect("a certificate").der().clone();
    let clients = match end_of_ca {
        Some(_) => Clients::Require { anchors: vec![certificate.clone()], crls: Vec::new() },
        None => Clients::Anyone,
    };
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    server_tls(TlsLevel::Modern, vec![certificate], &key, clients).expect("a TLS server")
}
