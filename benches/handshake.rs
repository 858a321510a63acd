//! The cost of a full TLS 1.3 handshake with client certificates for the proxy: with ECDSA P-256
//! certificates, which scrapegate creates, and with RSA-2048 certificates, which the openITCOCKPIT
//! agent has.
//!
//! Everything runs in memory, and the client's time is subtracted. The result contains the proxy's
//! signature, the verification of the client's certificate, the key exchange, and parsing the
//! client's identity.
//!
//! Not shown: TCP, round trips, slow clients, and concurrent handshakes, whose number
//! `max-handshakes` limits. scrapegate does not resume sessions.

use std::{net::Ipv4Addr, num::NonZeroUsize, sync::Arc, time::Duration};

use criterion::Criterion;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use scrapegate::{
    common::peer::Host,
    config::TlsLevel,
    downstream::handshake::{HandshakeLimiter, handshake},
    tls::{Clients, provider, server_tls},
};
use scrapegate_harness::in_memory::{counted::Stream, rig::runtime, tls::Scraper};

const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let mut group = criterion.benchmark_group("handshake, mutual TLS 1.3");
    let p256 = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
    let rsa = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
    let runtime = runtime();
    for (name, new_key) in
        [("ECDSA P-256", &p256 as &dyn Fn() -> Result<KeyPair, rcgen::Error>), ("RSA-2048", &rsa)]
    {
        let (server, client) = both_sides(&|| new_key().expect("a key"));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                (0..count).map(|_| runtime.block_on(shake_hands(&server, &client))).sum()
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

/// The time that the proxy's side of one handshake takes.
async fn shake_hands(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Duration {
    let scraper = Scraper::new(Arc::clone(client), b"");
    let time_of_client = scraper.time();
    let scraper = Stream::new(scraper, Arc::default());
    let limiter = HandshakeLimiter::new(NonZeroUsize::MIN);
    let begun = std::time::Instant::now();
    let limiter = (&limiter, Host::of(Ipv4Addr::LOCALHOST.into()));
    let (stream, identity) =
        handshake(scraper, server, PATIENCE, limiter).await.expect("a handshake");
    let took = begun.elapsed().saturating_sub(time_of_client());
    assert!(identity.is_some() && !stream.get_ref().1.is_handshaking(), "no client");
    took
}

/// TLS configurations for the proxy and a client, with certificates of one CA and keys of one kind.
fn both_sides(new_key: &dyn Fn() -> KeyPair) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "a CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, new_key()).expect("a CA certificate");
    let issue = |usage| {
        let mut params =
            CertificateParams::new(vec!["localhost".to_owned()]).expect("a name that rcgen takes");
        params.extended_key_usages = vec![usage];
        let key = new_key();
        let certificate = params.signed_by(&key, &ca).expect("a certificate").der().clone();
        (vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8"))
    };
    let anchor: CertificateDer<'static> = ca.der().clone();

    let (chain, key) = issue(ExtendedKeyUsagePurpose::ServerAuth);
    let clients = Clients::Require { anchors: vec![anchor.clone()], crls: Vec::new() };
    let server = server_tls(TlsLevel::Modern, chain, &key, clients).expect("a TLS server").config;

    let (chain, key) = issue(ExtendedKeyUsagePurpose::ClientAuth);
    let mut roots = RootCertStore::empty();
    roots.add(anchor).expect("a CA certificate that rustls can read");
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version that rustls has")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("the key belongs to the certificate");
    (server, Arc::new(client))
}
