//! X.509 version 1, which plain `openssl x509 -req` creates: accepted if everything else is right,
//! and refused otherwise. `tests/real/certificates.rs` tests certificates made by OpenSSL.

use rcgen::{BasicConstraints, CertificateParams, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{AlertDescription, pki_types::CertificateDer};
use scrapegate_harness::{
    client::Client,
    forge::{self, Authority, Credentials},
    pki::{BOTH_VERSIONS, Pki},
    version1::{pem, version1},
};

use crate::Setup;

const SERIAL: u64 = 0x1007;

/// A version 1 client certificate issued by `issuer`, after `change` has modified its parameters.
fn client(issuer: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Credentials {
    let mut made = forge::credentials(
        issuer,
        |params| {
            params.serial_number = Some(SERIAL.into());
            change(params);
        },
        &[],
    );
    made.chain = vec![version1(&made.chain[0], issuer.key())];
    made
}

/// The CA certificate as version 1, with the same name and key.
fn as_version1(ca: &Authority) -> CertificateDer<'static> {
    version1(ca.der(), ca.key())
}

fn with_key(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Credentials {
    Credentials { chain, key: KeyPair::from_pem(&key.serialize_pem()).expect("a copy of the key") }
}

/// A proxy that trusts `anchors` in addition to the CA of `pki`, with `keys` in `[proxy]`.
fn trusting(pki: &Pki, anchors: &[CertificateDer<'_>], keys: &str) -> Setup {
    let file = pki.path("trusted.pem");
    let own = pki.ca().pem();
    let all: String = anchors.iter().map(|anchor| pem(anchor)).collect();
    std::fs::write(&file, all + &own).expect("written");
    let ca = format!("client-ca = {}\n", pki.path("ca.pem").display());
    let trusted = format!("client-ca = {}\n", file.display());
    Setup::with_config(pki, &pki.config_ini(keys).replace(&ca, &trusted))
}

fn with_list(pki: &Pki, list: &str) -> Setup {
    let file = pki.path("lists.pem");
    std::fs::write(&file, list).expect("written");
    Setup::new(pki, &format!("client-crl = {}\n", file.display()))
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

#[track_caller]
fn assert_refused(pki: &Pki, setup: &Setup, shown: &Credentials, alert: AlertDescription) {
    for &version in BOTH_VERSIONS {
        setup.assert_refuses(pki.client_with(&[version], shown.chain.clone(), &shown.key), alert);
    }
    setup.assert_accepts_and_counts(pki.client(BOTH_VERSIONS));
}

#[test]
fn f09_a_version_1_certificate_of_the_ca_is_accepted() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let shown = client(pki.ca(), |_| {});
    let (_, parsed) = x509_parser::parse_x509_certificate(&shown.chain[0]).expect("readable");
    assert_eq!(parsed.version(), x509_parser::x509::X509Version::V1);
    assert_accepted(&pki, &setup, &shown);
    assert_eq!(setup.proxy.wait_for_scrape("e")["client"], "forged");
}

#[test]
fn f09_a_version_1_ca_can_issue_client_certificates_and_be_one() {
    let pki = Pki::new();
    let ca = forge::authority("an old CA", forge::new_key(), -1..100);
    let setup = trusting(&pki, &[as_version1(&ca)], "");
    assert_accepted(&pki, &setup, &client(&ca, |_| {}));
    assert_accepted(&pki, &setup, &forge::credentials(&ca, |_| {}, &[]));
    let itself = with_key(vec![as_version1(&ca)], ca.key());
    assert_accepted(&pki, &setup, &itself);
    let without_its_key = with_key(vec![as_version1(&ca)], &forge::new_key());
    assert_refused(&pki, &setup, &without_its_key, AlertDescription::DecryptError);
}

#[test]
fn f09_a_version_1_certificate_of_another_ca_gets_unknown_ca() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    for name in ["another CA", "scrapegate test CA"] {
        let other = forge::authority(name, forge::new_key(), -1..100);
        assert_refused(&pki, &setup, &client(&other, |_| {}), AlertDescription::UnknownCA);
        let mut with_its_ca = client(&other, |_| {});
        with_its_ca.chain.push(as_version1(&other));
        assert_refused(&pki, &setup, &with_its_ca, AlertDescription::UnknownCA);
    }
    let key = forge::new_key();
    let own = forge::authority("its own CA", key, -1..100);
    let itself = with_key(vec![as_version1(&own)], own.key());
    assert_refused(&pki, &setup, &itself, AlertDescription::UnknownCA);
    let record = setup
        .proxy
        .wait_for_log("a refusal", |record| record["fields"]["subject"] == "CN=its own CA");
    assert_eq!(record["fields"]["issuer"], "CN=its own CA");
    let reason = "client certificate refused: the certificate is not signed by a trusted CA";
    assert_eq!(record["fields"]["reason"], reason);
}

#[test]
fn f09_a_version_1_certificate_outside_its_validity_gets_certificate_expired() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    for days in [-10..-1, 1..10] {
        let shown = client(pki.ca(), |params| {
            params.not_before = forge::in_days(days.start);
            params.not_after = forge::in_days(days.end);
        });
        assert_refused(&pki, &setup, &shown, AlertDescription::CertificateExpired);
    }
}

#[test]
fn f09_a_version_1_certificate_with_a_changed_byte_or_another_key_is_refused() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let mut changed = client(pki.ca(), |_| {});
    let mut bytes = changed.chain[0].to_vec();
    let at = bytes.windows(6).position(|it| it == b"forged").expect("its name");
    bytes[at] = b'F';
    changed.chain = vec![bytes.into()];
    assert_refused(&pki, &setup, &changed, AlertDescription::UnknownCA);
    let mut stolen = client(pki.ca(), |_| {});
    stolen.key = forge::new_key();
    assert_refused(&pki, &setup, &stolen, AlertDescription::DecryptError);
}

#[test]
fn f09_a_version_1_certificate_is_checked_against_the_crls() {
    let pki = Pki::new();
    let days = -1..100;
    let shown = client(pki.ca(), |_| {});
    let list = |serials: &[u64]| forge::revocation_list(pki.ca(), serials, days.clone());
    let other = |name| forge::authority(name, forge::new_key(), days.clone());
    let refuse = |list: &str, alert| {
        let setup = with_list(&pki, list);
        for &version in BOTH_VERSIONS {
            let config = pki.client_with(&[version], shown.chain.clone(), &shown.key);
            setup.assert_refuses(config, alert);
        }
    };
    refuse(&list(&[1, SERIAL]), AlertDescription::CertificateRevoked);
    assert_accepted(&pki, &with_list(&pki, &list(&[SERIAL + 1])), &shown);
    // No CRL of its issuer, a CRL with the signature of another CA, and a CRL that is out of date.
    let of_another = forge::revocation_list(&other("another CA"), &[], days.clone());
    refuse(&of_another, AlertDescription::UnknownCA);
    let forged = forge::revocation_list(&other("scrapegate test CA"), &[], days.clone());
    refuse(&forged, AlertDescription::UnknownCA);
    refuse(&forge::revocation_list(pki.ca(), &[], -10..-1), AlertDescription::UnknownCA);
}

#[test]
fn f09_client_allow_applies_to_version_1_certificates() {
    let pki = Pki::new();
    let shown = client(pki.ca(), |_| {});
    let setup = Setup::new(&pki, "client-allow = CN=somebody-else, CN=scrapegate test CA\n");
    for &version in BOTH_VERSIONS {
        let config = pki.client_with(&[version], shown.chain.clone(), &shown.key);
        let mut client = Client::connect(setup.address(), config).expect("a handshake");
        assert_eq!(client.get("/prometheus?exporter=e").head.status, 403);
    }
    drop(setup);
    let key = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        &rcgen::PublicKeyData::subject_public_key_info(&shown.key),
    );
    let by_key = format!("sha256:{}", scrapegate_harness::body::hex(key.as_ref()));
    for pattern in ["CN=forged", by_key.as_str()] {
        let keys = format!("client-allow = {pattern}, CN=scrapegate test CA\n");
        assert_accepted(&pki, &Setup::new(&pki, &keys), &shown);
    }
}

#[test]
fn f09_a_version_1_certificate_that_is_not_a_trust_anchor_is_not_a_ca() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    // Signed by the CA. As version 1, the certificate cannot say that it is not a CA.
    let middle = Authority::signed_by(authority("in the middle"), forge::new_key(), pki.ca());
    let middle = middle.expect("a CA certificate");
    let middle_1 = version1(middle.der(), pki.ca().key());
    for mut shown in [forge::credentials(&middle, |_| {}, &[]), client(&middle, |_| {})] {
        shown.chain.push(middle_1.clone());
        assert_refused(&pki, &setup, &shown, AlertDescription::UnknownCA);
    }
}

/// The parameters of a CA.
fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).expect("valid names");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

#[test]
fn f09_a_trust_anchor_that_is_not_a_ca_cannot_issue_certificates() {
    let pki = Pki::new();
    let trusted = |change: fn(&mut CertificateParams)| {
        let mut params = authority("trusted");
        change(&mut params);
        Authority::self_signed(params, forge::new_key()).expect("a certificate")
    };
    for anchor in [
        trusted(|params| params.is_ca = IsCa::ExplicitNoCa),
        trusted(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
    ] {
        let setup = trusting(&pki, &[anchor.der().clone()], "");
        let alert = AlertDescription::UnknownCA;
        assert_refused(&pki, &setup, &client(&anchor, |_| {}), alert);
        assert_refused(&pki, &setup, &forge::credentials(&anchor, |_| {}, &[]), alert);
        assert_accepted(&pki, &setup, &with_key(vec![anchor.der().clone()], anchor.key()));
    }
    // The names of a version 1 certificate cannot be checked against name constraints.
    let anchor = trusted(|params| {
        params.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example.org".to_owned())],
            excluded_subtrees: Vec::new(),
        });
    });
    let setup = trusting(&pki, &[anchor.der().clone()], "");
    let alert = AlertDescription::CertificateUnknown;
    assert_refused(&pki, &setup, &client(&anchor, |_| {}), alert);
}

#[test]
fn f09_a_trusted_client_certificate_is_accepted_and_is_not_a_ca() {
    let pki = Pki::new();
    let mut params = authority("a client");
    params.is_ca = IsCa::NoCa;
    let pinned = Authority::signed_by(params, forge::new_key(), pki.ca()).expect("a certificate");
    let old = version1(pinned.der(), pki.ca().key());
    for anchor in [pinned.der().clone(), old] {
        let setup = trusting(&pki, std::slice::from_ref(&anchor), "");
        let alert = AlertDescription::UnknownCA;
        assert_refused(&pki, &setup, &client(&pinned, |_| {}), alert);
        assert_refused(&pki, &setup, &forge::credentials(&pinned, |_| {}, &[]), alert);
        assert_accepted(&pki, &setup, &with_key(vec![anchor], pinned.key()));
    }
    // keyCertSign says that the certificate is a CA.
    let mut params = authority("a CA below another");
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = Authority::signed_by(params, forge::new_key(), pki.ca()).expect("a certificate");
    let setup = trusting(&pki, &[ca.der().clone()], "");
    assert_accepted(&pki, &setup, &forge::credentials(&ca, |_| {}, &[]));
}

#[test]
fn f09_a_version_1_certificate_below_an_intermediate_ca_is_refused_with_the_reason() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let middle = forge::intermediate(pki.ca(), 7);
    let mut shown = client(&middle, |_| {});
    shown.chain.push(middle.der().clone());
    assert_refused(&pki, &setup, &shown, AlertDescription::UnknownCA);
    let reason = "client certificate refused: a version 1 certificate must be signed directly by a CA \
                  in `client-ca` or `ca-file`";
    setup.proxy.wait_for_log("the reason", |record| record["fields"]["reason"] == reason);
}
