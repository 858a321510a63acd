//! The validity of a trust anchor limits the certificates that it issued.

use rustls::AlertDescription;
use scrapegate_harness::{
    forge::{self, Authority},
    pki::{BOTH_VERSIONS, Pki},
    version1::version1,
};

use crate::Setup;

/// A proxy that trusts these certificates in addition to the CA of `pki`.
fn trusting(pki: &Pki, anchors: &[&Authority]) -> Setup {
    let file = pki.path("trusted.pem");
    let all: String = anchors.iter().map(|anchor| anchor.pem()).collect();
    std::fs::write(&file, all + &pki.ca().pem()).expect("written");
    let ca = format!("client-ca = {}\n", pki.path("ca.pem").display());
    let trusted = format!("client-ca = {}\n", file.display());
    Setup::with_config(pki, &pki.config_ini("").replace(&ca, &trusted))
}

#[test]
fn f12_clients_of_an_expired_ca_are_refused_and_those_of_other_cas_accepted() {
    let pki = Pki::new();
    for (days, reason) in
        [(-10..-1, "the CA certificate expired on "), (1..10, "is not valid before ")]
    {
        let ca = forge::authority("a CA out of its time", forge::new_key(), days);
        let setup = trusting(&pki, &[&ca]);
        let direct = forge::credentials(&ca, |_| {}, &[]);
        let intermediate = forge::intermediate(&ca, 7);
        let below = forge::credentials(&intermediate, |_| {}, &[&intermediate]);
        let mut old = forge::credentials(&ca, |_| {}, &[]);
        old.chain = vec![version1(&old.chain[0], ca.key())];
        for shown in [direct, below, old] {
            for &version in BOTH_VERSIONS {
                let config = pki.client_with(&[version], shown.chain.clone(), &shown.key);
                setup.assert_refuses(config, AlertDescription::CertificateExpired);
            }
        }
        setup.proxy.wait_for_log("why", |record| {
            record["fields"]["message"] == "TLS handshake failed"
                && record["fields"]["issuer"] == "CN=a CA out of its time"
                && record["fields"]["reason"].as_str().is_some_and(|it| it.contains(reason))
        });
        setup.assert_accepts_and_counts(pki.client(BOTH_VERSIONS));
    }
}

#[test]
fn f12_clients_of_a_ca_renewed_with_the_same_key_are_accepted_next_to_the_expired_one() {
    let pki = Pki::new();
    let key = forge::new_key();
    let again = rcgen::KeyPair::from_pem(&key.serialize_pem()).expect("a copy of the key");
    let expired = forge::authority("renewed CA", key, -10..-1);
    let renewed = forge::authority("renewed CA", again, -1..10);
    for order in [[&expired, &renewed], [&renewed, &expired]] {
        let setup = trusting(&pki, &order);
        let shown = forge::credentials(&expired, |_| {}, &[]);
        for &version in BOTH_VERSIONS {
            setup.assert_accepts_and_counts(pki.client_with(
                &[version],
                shown.chain.clone(),
                &shown.key,
            ));
        }
    }
}

/// A critical certificatePolicies extension with one policy.
fn policies() -> rcgen::CustomExtension {
    let content = vec![0x30, 0x07, 0x30, 0x05, 0x06, 0x03, 0x2a, 0x03, 0x04];
    let mut policies = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 32], content);
    policies.set_criticality(true);
    policies
}

#[test]
fn f11_a_ca_with_an_unknown_critical_extension_can_issue_client_certificates_but_not_be_one() {
    let pki = Pki::new();
    let mut params = forge::authority_until(forge::in_days(10));
    params.custom_extensions.push(policies());
    let ca = Authority::self_signed(params, forge::new_key()).expect("a CA certificate");
    let setup = trusting(&pki, &[&ca]);
    let shown = forge::credentials(&ca, |_| {}, &[]);
    let same = forge::credentials(&ca, |params| params.custom_extensions.push(policies()), &[]);
    for &version in BOTH_VERSIONS {
        let with = |chain, key| pki.client_with(&[version], chain, key);
        setup.assert_accepts_and_counts(with(shown.chain.clone(), &shown.key));
        let alert = AlertDescription::BadCertificate;
        for config in [with(vec![ca.der().clone()], ca.key()), with(same.chain.clone(), &same.key)]
        {
            setup.assert_refuses(config, alert);
        }
    }
    setup.proxy.wait_for_log("the reason", |record| {
        record["fields"]["reason"]
            .as_str()
            .is_some_and(|it| it.contains("a critical extension that is not supported"))
    });
}
