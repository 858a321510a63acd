//! Rules that need only a certificate's bytes. `tests/tls` has the handshakes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime},
    server::danger::ClientCertVerifier,
    version::{TLS12, TLS13},
};
use time::OffsetDateTime;

use super::{client_verifier::subjects, *};

/// The validity of [`authority`], in seconds since 1970.
const VALID: (i64, i64) = (1_000_000_000, 2_000_000_000);

fn authority(common_name: &str) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = OffsetDateTime::from_unix_timestamp(VALID.0).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(VALID.1).unwrap();
    (params.self_signed(&key).unwrap().into(), key)
}

#[test]
fn clients_receive_the_names_of_all_cas_or_no_names_if_they_are_too_many() {
    // With the two bytes for its length, a name takes 64 of the 16384 bytes.
    let (anchor, _) = authority(&"x".repeat(49));
    let sent = |number: usize| {
        let names = subjects(&vec![anchor.clone(); number]);
        assert!(names.iter().all(|name| name.as_ref().len() == 62));
        names.len()
    };
    assert_eq!((sent(1), sent(256), sent(257)), (1, 256, 0));
}

#[test]
fn a_ca_is_accepted_as_a_client_while_it_is_valid_and_another_ca_is_not() {
    let ((anchor, _), (other, _)) = (authority("ca"), authority("ca"));
    let verifier = ClientVerifier::new(vec![anchor.clone()], Vec::new(), &provider()).unwrap();
    assert_eq!(verifier.root_hint_subjects().len(), 1);
    assert_eq!(
        verifier.root_hint_subjects()[0].as_ref(),
        subjects(std::slice::from_ref(&anchor))[0].as_ref()
    );
    let at = |seconds: i64| {
        UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap()))
    };
    for (seconds, expected) in
        [(VALID.0 - 1, false), (VALID.0, true), (VALID.1, true), (VALID.1 + 1, false)]
    {
        let verified = verifier.verify(&anchor, &[], at(seconds));
        assert_eq!(verified.is_ok(), expected, "{seconds}: {verified:?}");
        assert!(verifier.verify(&other, &[], at(seconds)).is_err());
    }
}

#[test]
fn a_key_belongs_to_its_certificate_and_to_no_other() {
    let ((certificate, key), (_, other)) = (authority("a"), authority("b"));
    let signing = |key: &KeyPair| {
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        provider().key_provider.load_private_key(key).unwrap()
    };
    assert_eq!(server_key_matches(&certificate, &*signing(&key)), Some(true));
    assert_eq!(server_key_matches(&certificate, &*signing(&other)), Some(false));
    assert_eq!(server_key_matches(&CertificateDer::from(vec![0]), &*signing(&key)), None);
    assert_eq!(validity(&certificate), Some(VALID));
}

#[test]
fn the_wall_clock_is_the_clock_of_the_system() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!((now..now + 60).contains(&wall_clock().as_secs()));
}

/// A handshake in memory. Returns the kind of handshake that each side saw.
fn handshake_kinds(
    client: &Arc<rustls::ClientConfig>,
    server: &Arc<ServerConfig>,
) -> [Option<rustls::HandshakeKind>; 2] {
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = rustls::ServerConnection::new(Arc::clone(server)).unwrap();
    // Tickets follow the handshake.
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut sent = wire.as_slice();
        while !sent.is_empty() {
            server.read_tls(&mut sent).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut sent = wire.as_slice();
        while !sent.is_empty() {
            client.read_tls(&mut sent).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    [client.handshake_kind(), server.handshake_kind()]
}

#[test]
fn f12_the_certificate_of_a_server_that_sends_tickets_is_verified_in_each_handshake() {
    let (certificate, key) = authority("exporter");
    for version in [&TLS12, &TLS13] {
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        // A rustls server resumes sessions by default.
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let server = Arc::new(server);
        let client = Arc::new(client_tls(Servers::Any, None).unwrap());
        for _ in 0..3 {
            let kinds = handshake_kinds(&client, &server);
            assert_eq!(kinds, [Some(rustls::HandshakeKind::Full); 2], "{version:?}");
        }
    }
}

#[test]
fn a_client_presents_a_certificate_only_with_its_own_key() {
    let ((certificate, key), (_, other)) = (authority("a"), authority("b"));
    let with = |key: &KeyPair| {
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        client_tls(Servers::Any, Some((vec![certificate.clone()], key)))
    };
    assert!(with(&key).unwrap().client_auth_cert_resolver.has_certs());
    assert!(matches!(with(&other), Err(ClientConfigError::KeyMismatch)));
}
