//! A refused `POST` leaves the files unchanged.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, GeneralSubtree, IsCa, KeyPair,
    NameConstraints,
};
use scrapegate_harness::{
    forge::{self, Authority, in_days},
    plain,
};
use serde_json::json;

use crate::{Host, certificate, new_ca, signed};

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// A CA certificate that may not sign.
fn non_signing_ca(key: KeyPair) -> Authority {
    let mut params = CertificateParams::new([]).expect("valid names");
    params.is_ca = IsCa::ExplicitNoCa;
    Authority::self_signed(params, key).expect("a certificate")
}

/// A CA certificate that a start would refuse.
pub(crate) fn unusable_ca(name: &str) -> Authority {
    let mut params = CertificateParams::new([]).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DirectoryName(DistinguishedName::new())],
        excluded_subtrees: Vec::new(),
    });
    Authority::self_signed(params, new_key()).expect("a CA certificate")
}

/// Bodies that must be refused, each with the reason phrase.
fn bad(key: &KeyPair, ca: &Authority) -> Vec<(&'static str, String, &'static str)> {
    let good = certificate(ca, key, |_| ());
    let other = new_ca("another");
    // Same name, different key.
    let namesake = new_ca("monitoring");
    let constrained = non_signing_ca(new_key());
    let bystander = forge::credentials(ca, |_| (), &[]);
    let bystander_ca = Authority::signed_by(CertificateParams::default(), bystander.key, ca);
    let bystander_ca = bystander_ca.expect("a certificate that is not a CA");
    let (readable, json) =
        ("certificate or CA is not readable", "request body is not signed and ca");
    let foreign = "certificate is not of that CA";
    let cut = good.replace("-----END", "AAAA\n-----END");
    let half: String = good.chars().take(good.len() / 2).collect();
    let expired = certificate(ca, key, |it| it.not_after = in_days(-1));
    let early = certificate(ca, key, |it| it.not_before = in_days(1));
    let old_ca = forge::authority("monitoring", new_key(), -10..-1);
    let unusable = unusable_ca("unusable");
    let under_unusable = certificate(&unusable, key, |_| ());
    let under_old = certificate(&old_ca, key, |_| ());
    vec![
        (
            "for another key",
            signed(&certificate(ca, &new_key(), |_| ()), &ca.pem()),
            "certificate is for another key",
        ),
        ("the CA alone", signed(&ca.pem(), &ca.pem()), "certificate is for another key"),
        ("swapped", signed(&ca.pem(), &good), "certificate is for another key"),
        ("of another CA", signed(&good, &other.pem()), foreign),
        ("of a CA of the same name", signed(&good, &namesake.pem()), foreign),
        ("of itself", signed(&good, &good), foreign),
        (
            "of a certificate that is not a CA",
            signed(&certificate(&constrained, key, |_| ()), &constrained.pem()),
            foreign,
        ),
        (
            "of a certificate of another host",
            signed(&(certificate(&bystander_ca, key, |_| ()) + &bystander_ca.pem()), &ca.pem()),
            foreign,
        ),
        ("expired", signed(&expired, &ca.pem()), "certificate or CA is not valid now"),
        ("early", signed(&early, &ca.pem()), "certificate or CA is not valid now"),
        (
            "of an expired CA",
            signed(&under_old, &old_ca.pem()),
            "certificate or CA is not valid now",
        ),
        (
            "of a CA that a start would refuse",
            signed(&under_unusable, &unusable.pem()),
            "certificate or CA cannot be used",
        ),
        ("empty texts", signed("", ""), readable),
        ("not PEM", signed("certificate", "ca"), readable),
        ("no CA", signed(&good, ""), readable),
        ("half a certificate", signed(&half, &ca.pem()), readable),
        ("damaged PEM", signed(&cut, &ca.pem()), readable),
        (
            "damaged PEM after a valid certificate",
            signed(&(good.clone() + &cut), &ca.pem()),
            readable,
        ),
        ("a key", signed(&new_key().serialize_pem(), &ca.pem()), readable),
        ("not JSON", "signed=1&ca=2".to_owned(), json),
        ("nothing", String::new(), json),
        ("without ca", json!({ "signed": good }).to_string(), json),
        ("null", json!({ "signed": good, "ca": null }).to_string(), json),
        ("a control character", "{\"signed\":\"\u{0}\",\"ca\":\"\"}".to_owned(), json),
    ]
}

#[test]
fn a_post_stores_a_matching_pair_or_changes_nothing() {
    let (host, ca) = (Host::new(), new_ca("monitoring"));
    let premature = host.post(&signed(&ca.pem(), &ca.pem()));
    assert!(
        premature.starts_with("HTTP/1.1 400 certificate is for another key\r\n"),
        "{premature}"
    );
    assert!(host.files().is_empty(), "no request has created a key");

    host.signing_request("/autotls");
    let before = host.files();
    let bad = bad(&host.key(), &ca);
    for (what, body, reason) in &bad {
        let answer = host.post(body);
        assert!(answer.starts_with(&format!("HTTP/1.1 400 {reason}\r\n")), "{what}: {answer}");
        assert_eq!(plain::body(&answer), format!("{reason}\n"), "{what}");
        assert!(host.files() == before, "{what}: the files have changed");
    }
    let answer = host.post(&signed(&host.certificate(&ca), &ca.pem()));
    assert_eq!(plain::status(&answer), 200, "{answer}");
    host.wait_for_reloads(1);
    host.assert_serves(&ca);
    let secret = host.read("agent.key");
    let secret = secret.lines().nth(1).expect("a line of the key");
    assert!(!host.proxy.log_lines().iter().any(|line| line.contains(secret)));
    let page = host.connect(crate::as_ca(&ca)).get("/metrics").body.text();
    let counts = page.lines().filter_map(|line| line.split_once("_rejected_total{reason=\"enrol_"));
    let counts = counts.filter_map(|(_, rest)| rest.rsplit_once(' ')?.1.parse::<usize>().ok());
    assert_eq!(counts.sum::<usize>(), 1 + bad.len(), "each is counted once: {page}");
}

#[test]
fn an_intermediate_ca_is_posted_after_the_certificate() {
    let (host, ca) = (Host::new(), new_ca("monitoring"));
    host.signing_request("/autotls");
    let intermediate = forge::intermediate(&ca, 7);
    let certificate = host.certificate(&intermediate);
    let answer = host.post(&signed(&certificate, &ca.pem()));
    assert_eq!(plain::status(&answer), 400, "a chain with a gap: {answer}");
    let answer = host.post(&signed(&(certificate + &intermediate.pem()), &ca.pem()));
    assert_eq!(plain::status(&answer), 200, "{answer}");
    host.wait_for_reloads(1);
    host.assert_serves(&ca);
}

#[test]
fn an_unwritable_folder_is_a_500_and_not_the_clients_fault() {
    let (host, ca) = (Host::new(), new_ca("monitoring"));
    host.signing_request("/autotls");
    // Root may write despite the file mode, but cannot replace a folder by a file.
    std::fs::create_dir(host.path("server_ca.crt")).expect("a folder");
    std::fs::write(host.path("server_ca.crt").join("x"), "").expect("a file in it");
    let answer = host.post(&signed(&host.certificate(&ca), &ca.pem()));
    assert!(answer.starts_with("HTTP/1.1 500 enrollment failed on this host\r\n"), "{answer}");
    assert!(!host.path("agent.crt").exists());
    let refused = |it: &serde_json::Value| it["fields"]["reason"] == "enrol_store";
    let record = host.proxy.wait_for_log("the cause", refused);
    assert!(record["fields"]["cause"].as_str().is_some_and(|it| !it.is_empty()), "{record}");
}
