//! Each kind of invalid client certificate, with the alert that reports it.

use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::AlertDescription;
use scrapegate_harness::{
    forge::{self, Authority, Credentials},
    pki::{BOTH_VERSIONS, Pki},
};

use crate::Setup;

/// The name of the CA of [`Pki`].
const CA_NAME: &str = "scrapegate test CA";

/// Asserts that `forged` is refused with `alert` for both TLS versions, and that the proxy then
/// accepts others.
#[track_caller]
fn assert_refused(pki: &Pki, setup: &Setup, forged: &Credentials, alert: AlertDescription) {
    for &version in BOTH_VERSIONS {
        let config = pki.client_with(&[version], forged.chain.clone(), &forged.key);
        setup.assert_refuses(config, alert);
    }
    setup.assert_accepts(pki.client(BOTH_VERSIONS));
}

/// Asserts the same with a new proxy.
#[track_caller]
fn assert_refused_by(pki: &Pki, forged: &Credentials, alert: AlertDescription) {
    assert_refused(pki, &Setup::new(pki, ""), forged, alert);
}

/// Asserts that `shown` is accepted with both TLS versions.
#[track_caller]
fn assert_accepted(pki: &Pki, setup: &Setup, shown: &Credentials) {
    for &version in BOTH_VERSIONS {
        setup.assert_accepts_and_counts(pki.client_with(
            &[version],
            shown.chain.clone(),
            &shown.key,
        ));
    }
}

/// A CA certificate as a client certificate, with a key that may belong to another.
fn as_client(authority: &Authority, key: &KeyPair) -> Credentials {
    let key = KeyPair::from_pem(&key.serialize_pem()).expect("a copy of the key");
    Credentials { chain: vec![authority.der().clone()], key }
}

/// A proxy that trusts `ca` instead of the CA of `pki`.
fn trusting(pki: &Pki, ca: &str) -> Setup {
    let file = pki.path("other-ca.pem");
    std::fs::write(&file, ca).expect("written");
    let trusted = pki.path("ca.pem").display().to_string();
    Setup::with_config(pki, &pki.config_ini("").replace(&trusted, &file.display().to_string()))
}

/// T01
#[test]
fn a_client_without_a_certificate_gets_certificate_required() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    for &version in BOTH_VERSIONS {
        let alert = AlertDescription::CertificateRequired;
        setup.assert_refuses(pki.stranger(&[version]), alert);
    }
    let record = setup.proxy.wait_for_log("the end of a handshake", |record| {
        record["fields"]["message"] == "TLS handshake failed"
    });
    assert!(record["fields"]["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")));
    setup.assert_accepts(pki.client(BOTH_VERSIONS));
}

/// T02
#[test]
fn a_certificate_of_another_ca_gets_unknown_ca() {
    let pki = Pki::new();
    let other = forge::authority("another CA", forge::new_key(), -1..100);
    let forged = forge::credentials(&other, |_| {}, &[&other]);
    assert_refused_by(&pki, &forged, AlertDescription::UnknownCA);
}

/// T02
#[test]
fn a_certificate_of_another_ca_with_the_same_name_is_refused() {
    let pki = Pki::new();
    let other = forge::authority(CA_NAME, forge::new_key(), -1..100);
    let forged = forge::credentials(&other, |_| {}, &[&other]);
    assert_refused_by(&pki, &forged, AlertDescription::UnknownCA);
}

/// T04
#[test]
fn an_expired_certificate_gets_certificate_expired() {
    let pki = Pki::new();
    let forged = forge::credentials(
        pki.ca(),
        |params| {
            params.not_before = forge::in_days(-10);
            params.not_after = forge::in_days(-1);
        },
        &[],
    );
    assert_refused_by(&pki, &forged, AlertDescription::CertificateExpired);
}

/// T05
#[test]
fn a_certificate_that_is_not_valid_yet_gets_certificate_expired() {
    let pki = Pki::new();
    let forged = forge::credentials(pki.ca(), |params| params.not_before = forge::in_days(1), &[]);
    assert_refused_by(&pki, &forged, AlertDescription::CertificateExpired);
}

/// T06
#[test]
fn a_certificate_for_servers_only_gets_unsupported_certificate() {
    let pki = Pki::new();
    let forged = forge::credentials(
        pki.ca(),
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        &[],
    );
    assert_refused_by(&pki, &forged, AlertDescription::UnsupportedCertificate);
}

/// T08
#[test]
fn a_self_signed_certificate_gets_unknown_ca() {
    let pki = Pki::new();
    assert_refused_by(&pki, &forge::self_signed(), AlertDescription::UnknownCA);
}

/// T10
#[test]
fn a_chain_needs_its_intermediate() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let intermediate = forge::intermediate(pki.ca(), 7);
    let missing = forge::credentials(&intermediate, |_| {}, &[]);
    assert_refused_by(&pki, &missing, AlertDescription::UnknownCA);
    assert_accepted(&pki, &setup, &forge::credentials(&intermediate, |_| {}, &[&intermediate]));
}

/// T18
#[test]
fn a_client_must_have_the_key_of_its_certificate() {
    let pki = Pki::new();
    let mut forged = forge::credentials(pki.ca(), |_| {}, &[]);
    forged.key = forge::new_key();
    assert_refused_by(&pki, &forged, AlertDescription::DecryptError);
}

#[test]
fn a_certificate_without_names_or_usages_is_accepted_like_those_of_agents() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let bare = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages.clear();
        params.key_usages.clear();
        params.use_authority_key_identifier_extension = false;
    };
    assert_accepted(&pki, &setup, &forge::credentials(pki.ca(), bare, &[]));
}

#[test]
fn the_ca_certificate_is_a_client_certificate_too() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    assert_accepted(&pki, &setup, &as_client(pki.ca(), pki.ca().key()));
    assert_eq!(setup.proxy.wait_for_scrape("e")["client"], CA_NAME);
}

#[test]
fn an_rsa_ca_certificate_is_a_client_certificate_too() {
    let pki = Pki::new();
    let key = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
    let ca = forge::authority("RSA CA", key(), -1..100);
    let mut setup = trusting(&pki, &ca.pem());
    setup.reader = pki.client_with(BOTH_VERSIONS, vec![ca.der().clone()], ca.key());
    assert_accepted(&pki, &setup, &as_client(&ca, ca.key()));
    for &version in BOTH_VERSIONS {
        let wrong_key = pki.client_with(&[version], vec![ca.der().clone()], &key());
        setup.assert_refuses(wrong_key, AlertDescription::DecryptError);
    }
}

#[test]
fn another_ca_certificate_with_the_same_name_is_not_accepted_as_client_certificate() {
    let pki = Pki::new();
    let other = forge::authority(CA_NAME, forge::new_key(), -1..100);
    let alert = AlertDescription::UnknownCA;
    assert_refused_by(&pki, &as_client(&other, other.key()), alert);
}

#[test]
fn another_ca_certificate_with_the_same_name_and_key_is_not_accepted_as_client_certificate() {
    let pki = Pki::new();
    let same_key = KeyPair::from_pem(&pki.ca().key().serialize_pem()).expect("a copy of the key");
    let other = forge::authority(CA_NAME, same_key, -1..100);
    let alert = AlertDescription::UnknownCA;
    assert_refused_by(&pki, &as_client(&other, other.key()), alert);
}

/// T18
#[test]
fn the_ca_certificate_without_its_key_is_refused() {
    let pki = Pki::new();
    let forged = as_client(pki.ca(), &forge::new_key());
    assert_refused_by(&pki, &forged, AlertDescription::DecryptError);
}

#[test]
fn an_expired_ca_certificate_is_not_accepted_as_client_certificate() {
    let pki = Pki::new();
    for days in [-10..-1, 1..10] {
        let ca = forge::authority("a CA out of its time", forge::new_key(), days);
        let setup = trusting(&pki, &format!("{}{}", ca.pem(), pki.ca().pem()));
        let alert = AlertDescription::CertificateExpired;
        assert_refused(&pki, &setup, &as_client(&ca, ca.key()), alert);
    }
}
