//! Files that are there when the process starts, or are gone when it reloads.

use std::fs;

use rcgen::KeyPair;

use crate::{
    Host, certificate, new_ca, signed,
    support::{pki::write_private, plain},
};

#[test]
fn the_files_of_an_agent_are_used_as_they_are() {
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
fn a_key_that_is_there_is_used_and_a_ca_that_was_left_behind_is_not_trusted() {
    let (left_behind, ca) = (new_ca("left behind"), new_ca("monitoring"));
    let key = KeyPair::generate().expect("a key").serialize_pem();
    // As after a crash between the two renames.
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
fn a_running_server_whose_certificate_vanishes_does_not_fall_back_to_plain_http() {
    let ca = new_ca("monitoring");
    let host = Host::enrolled(&ca, "");
    fs::remove_file(host.path("agent.crt")).expect("removed");
    host.proxy.signal("HUP");
    let refused = "reload refused, the configuration in use stays";
    let record = host.proxy.wait_for_log("a refusal", |it| it["fields"]["message"] == refused);
    let error = record["fields"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("takes a restart"), "{record}");
    host.assert_serves(&ca);
}
