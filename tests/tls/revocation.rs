//! `client-crl`: a certificate on a CRL is refused, and so is a certificate whose issuer has no
//! valid CRL.

use std::sync::Arc;

use rustls::AlertDescription;
use scrapegate_harness::{
    forge::{self, Credentials},
    pki::{BOTH_VERSIONS, Pki},
};

use crate::Setup;

const REVOKED: u64 = 0x1001;
const GOOD: u64 = 0x1002;
/// A list that holds today.
const CURRENT: std::ops::Range<i64> = -1..100;

fn with_lists(pki: &Pki, lists: &str) -> Setup {
    let file = pki.path("lists.pem");
    std::fs::write(&file, lists).expect("written");
    Setup::new(pki, &format!("client-crl = {}\n", file.display()))
}

fn with_serial(pki: &Pki, serial: u64) -> Credentials {
    forge::credentials(pki.ca(), |params| params.serial_number = Some(serial.into()), &[])
}

/// Asserts that the certificate is refused with both TLS versions, and that the CA itself, which is
/// on no CRL, is accepted afterwards.
#[track_caller]
fn assert_refused(pki: &Pki, setup: &Setup, shown: &Credentials, alert: AlertDescription) {
    for &version in BOTH_VERSIONS {
        setup.assert_refuses(pki.client_with(&[version], shown.chain.clone(), &shown.key), alert);
    }
    setup.assert_accepts(Arc::clone(&setup.reader));
}

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

/// T12
#[test]
fn a_certificate_on_the_list_is_revoked_and_another_is_not() {
    let pki = Pki::new();
    let setup = with_lists(&pki, &forge::revocation_list(pki.ca(), &[REVOKED], CURRENT));
    let alert = AlertDescription::CertificateRevoked;
    assert_refused(&pki, &setup, &with_serial(&pki, REVOKED), alert);
    assert_accepted(&pki, &setup, &with_serial(&pki, GOOD));
}

/// T15
#[test]
fn a_crl_past_its_next_update_is_not_valid() {
    let pki = Pki::new();
    let setup = with_lists(&pki, &forge::revocation_list(pki.ca(), &[], -10..-1));
    assert_refused(&pki, &setup, &with_serial(&pki, GOOD), AlertDescription::UnknownCA);
    setup.proxy.wait_for_log("a warning about the list", |record| {
        record["level"] == "WARN"
            && record["fields"]["message"]
                .as_str()
                .is_some_and(|it| it.contains("is a CRL that expired on "))
    });
}

/// T14
#[test]
fn a_crl_of_another_issuer_does_not_count() {
    let pki = Pki::new();
    let other = forge::authority("another CA", forge::new_key(), CURRENT);
    let setup = with_lists(&pki, &forge::revocation_list(&other, &[], CURRENT));
    assert_refused(&pki, &setup, &with_serial(&pki, GOOD), AlertDescription::UnknownCA);
}

/// T14
#[test]
fn a_crl_with_a_forged_signature_does_not_count() {
    let pki = Pki::new();
    // The name is right, the signature is not.
    let impostor = forge::authority("scrapegate test CA", forge::new_key(), CURRENT);
    let setup = with_lists(&pki, &forge::revocation_list(&impostor, &[], CURRENT));
    assert_refused(&pki, &setup, &with_serial(&pki, GOOD), AlertDescription::UnknownCA);
}

/// T13
#[test]
fn certificates_of_a_revoked_intermediate_are_refused() {
    let pki = Pki::new();
    let revoked = forge::intermediate(pki.ca(), REVOKED);
    let good = forge::intermediate(pki.ca(), GOOD);
    let lists = [
        forge::revocation_list(pki.ca(), &[REVOKED], CURRENT),
        forge::revocation_list(&revoked, &[], CURRENT),
        forge::revocation_list(&good, &[], CURRENT),
    ];
    let setup = with_lists(&pki, &lists[..2].concat());
    let below_revoked = forge::credentials(&revoked, |_| {}, &[&revoked]);
    let alert = AlertDescription::CertificateRevoked;
    assert_refused(&pki, &setup, &below_revoked, alert);
    let setup = with_lists(&pki, &[&lists[0][..], &lists[2]].concat());
    assert_accepted(&pki, &setup, &forge::credentials(&good, |_| {}, &[&good]));
}

/// T14
#[test]
fn every_certificate_of_a_chain_needs_a_crl_of_its_issuer() {
    let pki = Pki::new();
    let intermediate = forge::intermediate(pki.ca(), GOOD);
    let setup = with_lists(&pki, &forge::revocation_list(pki.ca(), &[], CURRENT));
    let below = forge::credentials(&intermediate, |_| {}, &[&intermediate]);
    assert_refused(&pki, &setup, &below, AlertDescription::UnknownCA);
}

#[test]
fn f11_a_crl_of_a_ca_without_crl_sign_is_still_valid() {
    let pki = Pki::new();
    let key = forge::new_key();
    let again = rcgen::KeyPair::from_pem(&key.serialize_pem()).expect("a copy of the key");
    // rcgen signs a CRL only if keyUsage has cRLSign. The CA with the same key but without cRLSign
    // is the trust anchor.
    let signer = forge::authority("intermediate", key, CURRENT);
    let mut params = forge::authority_until(forge::in_days(10));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let ca = forge::Authority::self_signed(params, again).expect("a CA certificate");
    let (trusted, lists) = (pki.path("trusted.pem"), pki.path("lists.pem"));
    std::fs::write(&trusted, ca.pem() + &pki.ca().pem()).expect("written");
    std::fs::write(&lists, forge::revocation_list(&signer, &[REVOKED], CURRENT)).expect("written");
    let own = format!("client-ca = {}\n", pki.path("ca.pem").display());
    let keys = format!("client-crl = {}\n", lists.display());
    let trusted = format!("client-ca = {}\n", trusted.display());
    let setup = Setup::with_config(&pki, &pki.config_ini(&keys).replace(&own, &trusted));
    let with = |serial: u64| {
        forge::credentials(&ca, |params| params.serial_number = Some(serial.into()), &[])
    };
    assert_accepted(&pki, &setup, &with(GOOD));
    assert_refused(&pki, &setup, &with(REVOKED), AlertDescription::CertificateRevoked);
}
