//! Renewal after enrollment, over mutual TLS only.

use std::fs;

use scrapegate_harness::{client::Client, plain, proxy::Proxy};

use crate::{Host, as_ca, as_scraper, certificate, csr_of, new_ca, signed, stranger};

#[test]
fn a_certificate_is_renewed_over_mutual_tls() {
    let ca = new_ca("monitoring");
    let host = Host::enrolled(&ca, "");
    let first = host.read("agent.crt");
    for (config, renewals) in [(as_ca(&ca), 1), (as_scraper(&ca), 2)] {
        let mut client = host.connect(config.clone());
        let answer = client.get("/autotls?domain=node1.example.org");
        assert_eq!(answer.head.status, 200, "{answer:?}");
        assert_eq!(csr_of(&answer.body.text()), host.read("agent.csr"));
        let renewed = host.certificate(&ca);
        let answer = host.renew(config, &signed(&renewed, &ca.pem()));
        assert_eq!(answer.head.status, 200, "{answer:?}");
        assert_eq!(answer.head.header("connection"), Some("close"));
        host.wait_for_reloads(1 + renewals);
        assert_eq!(host.read("agent.crt"), renewed);
        let client = host.connect(as_ca(&ca));
        let shown = client.tls().peer_certificates().expect("a certificate")[0].clone();
        let expected = rcgen_der(&renewed);
        assert!(shown.as_ref() == expected, "new connections get the new certificate");
    }
    assert_ne!(host.read("agent.crt"), first);
    host.assert_serves(&ca);
}

fn rcgen_der(pem: &str) -> Vec<u8> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM").1.contents
}

#[test]
fn a_stranger_cannot_renew() {
    let ca = new_ca("monitoring");
    let host = Host::enrolled(&ca, "");
    let before = host.files();
    let other = new_ca("another");
    let body = signed(&host.certificate(&other), &other.pem());
    for config in [stranger(&ca), crate::client(&ca, vec![other.der().clone()], other.key())] {
        let answered = Client::connect(host.address(), config).and_then(|mut client| {
            client.send(plain::post_request("/autotls", &body))?;
            client.read_head()
        });
        assert!(answered.is_err(), "{answered:?}");
    }
    let answer = host.post(&body);
    assert!(!answer.contains("HTTP/"), "{answer}");
    assert!(host.files() == before);
    host.assert_serves(&ca);
}

#[test]
fn only_a_client_with_the_ca_certificate_may_change_the_ca() {
    let (old, new) = (new_ca("old"), new_ca("new"));
    let host = Host::enrolled(&old, "");
    let before = host.files();
    let body = signed(&host.certificate(&new), &new.pem());
    let answer = host.renew(as_scraper(&old), &body);
    assert_eq!(
        (answer.head.status, answer.head.reason.as_str()),
        (403, "CA may not be changed by this client")
    );
    assert!(host.files() == before);
    let wrong = signed(&host.certificate(&old), &new.pem());
    let answer = host.renew(as_ca(&old), &wrong);
    assert_eq!(answer.head.status, 400, "{answer:?}");
    assert!(host.files() == before);

    let mut scraper = host.connect(as_scraper(&old));
    assert_eq!(scraper.get("/prometheus").head.status, 200);
    let answer = host.renew(as_ca(&old), &body);
    assert_eq!(answer.head.status, 200, "{answer:?}");
    host.wait_for_reloads(2);
    assert_eq!(host.read("server_ca.crt"), new.pem());
    host.assert_serves(&new);
    let (bytes, _) = scraper.read_to_end();
    assert!(bytes.is_empty(), "connections of the old CA's clients are closed");
}

/// Access is checked after the body has arrived, not before.
#[test]
fn f24_a_client_that_loses_access_during_its_renewal_stores_nothing() {
    let ca = new_ca("monitoring");
    let host = Host::enrolled(&ca, "header-timeout = 60\n");
    let before = host.files();
    let mut client = host.connect(as_scraper(&ca));
    let request = plain::post_request("/autotls", &signed(&host.certificate(&ca), &ca.pem()));
    let (start, rest) = request.split_at(request.len() - 10);
    client.send(start).expect("sent");
    client.wait_until_read();

    let config = host.proxy.folder().join("config.ini");
    let text = fs::read_to_string(&config).expect("config.ini");
    fs::write(&config, format!("{text}client-allow = CN=nobody\n")).expect("written");
    host.proxy.signal("HUP");
    host.wait_for_reloads(2);
    client.send(rest).expect("sent");
    let answer = client.read_response().expect("a response");
    assert_eq!(
        (answer.head.status, answer.head.reason.as_str()),
        (403, "client is no longer let in")
    );
    assert!(host.files() == before);
}

#[test]
fn a_refused_renewal_changes_nothing() {
    let ca = new_ca("monitoring");
    let host = Host::enrolled(&ca, "");
    let before = host.files();
    let other_key = rcgen::KeyPair::generate().expect("a key");
    // A start or a reload would refuse this certificate.
    let unusable = crate::posted::unusable_ca("monitoring");
    for body in [
        signed(&certificate(&ca, &other_key, |_| ()), &ca.pem()),
        signed("", ""),
        signed(&host.certificate(&unusable), &unusable.pem()),
        "garbage".to_owned(),
    ] {
        let answer = host.renew(as_ca(&ca), &body);
        assert_eq!(answer.head.status, 400, "{answer:?}");
        assert!(host.files() == before);
    }
    host.assert_serves(&ca);
}

#[test]
fn only_a_client_with_the_ca_certificate_may_restore_an_older_certificate() {
    let ca = new_ca("monitoring");
    let host = Host::enrolled(&ca, "");
    let begun = |days| {
        certificate(&ca, &host.key(), |params| {
            params.not_before = scrapegate_harness::forge::in_days(days)
        })
    };
    let (newer, older) = (begun(-1), begun(-3));
    assert_eq!(host.renew(as_scraper(&ca), &signed(&newer, &ca.pem())).head.status, 200);
    let answer = host.renew(as_scraper(&ca), &signed(&older, &ca.pem()));
    assert_eq!(
        (answer.head.status, answer.head.reason.as_str()),
        (409, "a newer certificate is in use")
    );
    assert_eq!(host.read("agent.crt"), newer);
    host.wait_for_reloads(2);
    assert_eq!(host.renew(as_ca(&ca), &signed(&older, &ca.pem())).head.status, 200);
    assert_eq!(host.read("agent.crt"), older);
    host.wait_for_reloads(3);
    host.assert_serves(&ca);
}

#[test]
fn enrol_from_restricts_renewal_and_enrol_window_does_not() {
    let ca = new_ca("monitoring");
    let host = Host::enrolled(&ca, "");
    let config = host.proxy.folder().join("config.ini");
    let before = fs::read_to_string(&config).expect("config.ini");
    fs::write(&config, format!("{before}enrol-window = 0.000001\n")).expect("written");
    host.proxy.signal("HUP");
    host.wait_for_reloads(2);
    assert_eq!(host.connect(as_ca(&ca)).get("/autotls").head.status, 200);
    fs::write(&config, format!("{before}enrol-from = 192.0.2.1\n")).expect("written");
    host.proxy.signal("HUP");
    host.wait_for_reloads(3);
    assert_eq!(host.connect(as_ca(&ca)).get("/autotls").head.status, 403);
    host.assert_serves(&ca);
}

#[test]
fn renewal_requires_client_certificates() {
    let ca = new_ca("monitoring");
    let host = Host::enrolled(&ca, "client-auth = none\n");
    let before = host.files();
    let mut client = host.connect(stranger(&ca));
    let answer = client.get("/autotls");
    assert_eq!(
        (answer.head.status, answer.head.reason.as_str()),
        (403, "client certificate required")
    );
    let answer = host.renew(stranger(&ca), &signed(&host.certificate(&ca), &ca.pem()));
    assert_eq!(answer.head.status, 403);
    assert!(host.files() == before);
}

#[test]
fn without_try_autossl_the_path_is_404() {
    let pki = scrapegate_harness::pki::Pki::new();
    let proxy = Proxy::start(&pki.config_ini(""), "");
    let config = pki.client(scrapegate_harness::pki::BOTH_VERSIONS);
    let mut client = Client::connect(proxy.address(), config).expect("a handshake");
    assert_eq!(client.get("/autotls").head.status, 404);
    client.send(plain::post_request("/autotls", "{}")).expect("sent");
    let answer = client.read_response().expect("an answer");
    assert_eq!(answer.head.status, 404, "{answer:?}");
}
