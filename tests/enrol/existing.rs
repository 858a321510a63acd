//! Enrollment files that already exist at the start, or are missing at a reload.

use std::{fs, sync::Arc};

use rcgen::KeyPair;
use rustls::ClientConfig;
use scrapegate::tls::{Servers, client_tls};
use scrapegate_harness::{
    forge::{self, Authority},
    metrics::Samples,
    pki::write_private,
    plain,
};

use crate::{Host, certificate, new_ca, signed};

#[test]
fn the_files_of_an_enrolled_agent_serve_without_enrolment() {
    let (ca, key) = (new_ca("monitoring"), KeyPair::generate().expect("a key"));
    let host = Host::with("", "", |folder| {
        write_private(&folder.path().join("agent.key"), &key.serialize_pem());
        write_private(&folder.path().join("agent.crt"), &certificate(&ca, &key, |_| ()));
        write_private(&folder.path().join("server_ca.crt"), &ca.pem());
    });
    host.assert_serves(&ca);
    let answer = plain::get(host.address(), "/autotls");
    assert!(!answer.contains("HTTP/"), "{answer}");
}

#[test]
fn an_existing_key_is_used_and_a_leftover_ca_is_not_trusted() {
    let (left_behind, ca) = (new_ca("left behind"), new_ca("monitoring"));
    let key = KeyPair::generate().expect("a key").serialize_pem();
    // The state after a crash between the two renames.
    let host = Host::with("", "", |folder| {
        write_private(&folder.path().join("agent.key"), &key);
        write_private(&folder.path().join("server_ca.crt"), &left_behind.pem());
    });
    host.signing_request("/autotls");
    assert_eq!(host.read("agent.key"), key);
    let answer = host.post(&signed(&host.certificate(&ca), &ca.pem()));
    assert_eq!(plain::status(&answer), 200, "{answer}");
    host.wait_for_reloads(1);
    assert_eq!(host.read("server_ca.crt"), ca.pem());
    host.assert_serves(&ca);
}

#[test]
fn a_server_whose_certificate_is_deleted_does_not_fall_back_to_plain_http() {
    let ca = new_ca("monitoring");
    let host = Host::enrolled(&ca, "");
    fs::remove_file(host.path("agent.crt")).expect("removed");
    host.proxy.signal("HUP");
    let refused = "reload failed; keeping the current configuration";
    let record = host.proxy.wait_for_log("a refusal", |it| it["fields"]["message"] == refused);
    let error = record["fields"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("requires a restart"), "{record}");
    host.assert_serves(&ca);
}

/// An openITCOCKPIT server, which does not verify the host.
fn openitcockpit(ca: &Authority) -> Arc<ClientConfig> {
    let key = ca.key().serialize_der().try_into().expect("PKCS #8");
    let pair = (vec![ca.der().clone()], key);
    Arc::new(client_tls(Servers::Any, Some(pair)).expect("a client"))
}

#[test]
fn f14_an_agent_certificate_outside_its_validity_is_served_with_a_warning_and_can_be_renewed() {
    for (days, words) in [(-10..-1, "expired on "), (1..10, "is not valid before ")] {
        let (ca, key) = (new_ca("monitoring"), KeyPair::generate().expect("a key"));
        let old = certificate(&ca, &key, |params| {
            params.not_before = forge::in_days(days.start);
            params.not_after = forge::in_days(days.end);
        });
        let host = Host::with("", "", |folder| {
            write_private(&folder.path().join("agent.key"), &key.serialize_pem());
            write_private(&folder.path().join("agent.crt"), &old);
            write_private(&folder.path().join("server_ca.crt"), &ca.pem());
        });
        host.proxy.wait_for_log("a warning", |record| {
            record["level"] == "WARN"
                && record["fields"]["message"].as_str().is_some_and(|it| it.starts_with(words))
        });
        let mut client = host.connect(openitcockpit(&ca));
        assert_eq!(client.get("/prometheus?exporter=e").head.status, 200);
        let file = host.path("agent.crt").display().to_string();
        let series = format!("scrapegate_certificate_expiry_timestamp_seconds{{file=\"{file}\"}}");
        let expires = Samples::of(&mut client).value(&series);
        let expected = forge::in_days(days.end).unix_timestamp() as f64;
        assert!((expires - expected).abs() < 60.0, "{expires} {expected}");
        // A reload accepts the certificate, too.
        host.proxy.signal("HUP");
        host.wait_for_reloads(1);

        // A certificate that is not valid yet counts as newer than the posted one. Only the CA may
        // replace it by an older one.
        let renewed = host.certificate(&ca);
        let answer = host.renew(openitcockpit(&ca), &signed(&renewed, &ca.pem()));
        assert_eq!(answer.head.status, 200, "{answer:?}");
        host.wait_for_reloads(2);
        assert_eq!(host.read("agent.crt"), renewed);
        // rustls without our extensions verifies the new certificate.
        host.assert_serves(&ca);
    }
}
