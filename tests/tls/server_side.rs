//! The server side of TLS: versions, cipher suites, protocols and sessions.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::{AlertDescription, CipherSuite, ClientConfig, HandshakeKind, ProtocolVersion};
use scrapegate_harness::{
    client::Client,
    pki::{BOTH_VERSIONS, Pki},
};

use crate::Setup;

fn at_level(pki: &Pki, level: &str) -> Setup {
    let keys = format!("[default]\ntls-security-level = {level}\n");
    Setup::with_config(pki, &pki.config_ini("").replacen("[default]\n", &keys, 1))
}

fn with_protocols(pki: &Pki, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut config = Arc::unwrap_or_clone(pki.client(BOTH_VERSIONS));
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    Arc::new(config)
}

#[test]
fn lax_and_intermediate_accept_both_versions_and_prefer_the_newer() {
    let pki = Pki::new();
    for level in ["lax", "intermediate"] {
        let setup = at_level(&pki, level);
        for &version in BOTH_VERSIONS {
            setup.assert_accepts(pki.client(&[version]));
        }
        let client =
            Client::connect(setup.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
        assert_eq!(client.tls().protocol_version(), Some(ProtocolVersion::TLSv1_3));
    }
}

#[test]
fn modern_refuses_tls_1_2() {
    let pki = Pki::new();
    let setup = at_level(&pki, "modern");
    let old = pki.client(&[&rustls::version::TLS12]);
    setup.assert_refuses(old, AlertDescription::ProtocolVersion);
    setup.assert_accepts(pki.client(&[&rustls::version::TLS13]));
}

#[test]
fn tls_1_2_has_forward_secrecy_and_authenticated_encryption() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let client = Client::connect(setup.address(), pki.client(&[&rustls::version::TLS12]))
        .expect("a handshake");
    let suite = client.tls().negotiated_cipher_suite().expect("a suite").suite();
    let good = [
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    assert!(good.contains(&suite), "{suite:?}");
}

#[test]
fn an_rsa_server_certificate_serves_both_versions() {
    let pki = Pki::new();
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, pki.ca()).expect("a certificate");
    // Replaces the server pair. The key file keeps its mode.
    std::fs::write(pki.path("server.pem"), certificate.pem()).expect("written");
    std::fs::write(pki.path("server.key"), key.serialize_pem()).expect("written");
    let setup = Setup::new(&pki, "");
    for &version in BOTH_VERSIONS {
        setup.assert_accepts(pki.client(&[version]));
    }
}

/// T35
#[test]
fn no_session_is_resumed() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    for &version in BOTH_VERSIONS {
        // A configuration contains the client's session cache.
        let config = pki.client(&[version]);
        for _ in 0..3 {
            let mut client = Client::connect(setup.address(), config.clone()).expect("a handshake");
            assert_eq!(client.get("/prometheus?exporter=e").head.status, 200);
            assert_eq!(client.tls().handshake_kind(), Some(HandshakeKind::Full), "{version:?}");
            assert_eq!(client.tls().tls13_tickets_received(), 0);
        }
    }
}

/// T29
#[test]
fn http_1_1_is_used_if_the_client_offers_no_protocol() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    for (offered, chosen) in [
        (&[][..], None),
        (&["http/1.1"], Some(&b"http/1.1"[..])),
        (&["h2", "http/1.1"], Some(b"http/1.1")),
    ] {
        let mut client =
            Client::connect(setup.address(), with_protocols(&pki, offered)).expect("a handshake");
        assert_eq!(client.tls().alpn_protocol(), chosen, "{offered:?}");
        assert_eq!(client.get("/prometheus?exporter=e").head.status, 200);
    }
}

#[test]
fn a_client_that_speaks_only_http_2_is_refused_in_the_handshake() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let h2_only = with_protocols(&pki, &["h2"]);
    setup.assert_refuses(h2_only, AlertDescription::NoApplicationProtocol);
}

/// T27
#[test]
fn a_client_without_a_server_name_is_served() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let mut config = Arc::unwrap_or_clone(pki.client(BOTH_VERSIONS));
    config.enable_sni = false;
    setup.assert_accepts(Arc::new(config));
}
