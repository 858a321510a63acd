//! The first enrollment, over plain HTTP: trust on first use, within the configured restrictions.

use std::{os::unix::fs::PermissionsExt, sync::Barrier, thread, time::Instant};

use scrapegate_harness::{
    client::Client,
    plain::{self, Plain},
};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use crate::{Host, as_ca, assert_within_a_second, new_ca, signed, stranger};

/// The common name and the subjectAltName of a signing request whose signature is valid.
fn names(csr: &str) -> (String, Vec<String>) {
    let (_, pem) = x509_parser::pem::parse_x509_pem(csr.as_bytes()).expect("PEM");
    assert_eq!(pem.label, "CERTIFICATE REQUEST");
    let (_, csr) = X509CertificationRequest::from_der(&pem.contents).expect("a request");
    csr.verify_signature().expect("signed by its own key");
    let subject = &csr.certification_request_info.subject;
    let common_name = subject.iter_common_name().next().expect("a common name");
    let alternatives = csr
        .requested_extensions()
        .into_iter()
        .flatten()
        .flat_map(|extension| {
            let ParsedExtension::SubjectAlternativeName(names) = extension else {
                panic!("{extension:?} was not asked for");
            };
            &names.general_names
        })
        .map(|name| {
            if let GeneralName::DNSName(name) = name {
                (*name).to_owned()
            } else if let GeneralName::IPAddress(octets) = name {
                format!("{octets:?}")
            } else {
                panic!("{name:?}")
            }
        });
    (common_name.as_str().expect("text").to_owned(), alternatives.collect())
}

#[test]
fn a_host_enrols_over_plain_http_and_then_serves_only_tls() {
    let (host, ca) = (Host::new(), new_ca("monitoring"));
    assert!(host.files().is_empty(), "the first request creates the key");
    let csr = host.signing_request("/autotls?domain=node1.example.org");
    let mode = host.path("agent.key").metadata().expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(host.read("agent.csr"), csr);
    let name = "node1.example.org".to_owned();
    assert_eq!(names(&csr), (name.clone(), vec![name]));

    let mut idle = Plain::connect(host.address());
    idle.send("GET /autotls HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
    idle.read_until(b"\"}");

    let answer = host.post(&signed(&host.certificate(&ca), &ca.pem()));
    let since = Instant::now();
    assert_eq!(plain::status(&answer), 200, "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(idle.read_to_end(), b"", "plain connections are closed");
    assert_within_a_second(since);
    host.wait_for_reloads(1);
    assert_within_a_second(since);

    host.assert_serves(&ca);
    let record =
        host.proxy.wait_for_log("the enrollment", |it| it["fields"]["message"] == "enrolled");
    let fields = &record["fields"];
    assert!(fields["peer"].as_str().is_some_and(|it| it.starts_with("127.0.0.1:")), "{record}");
    assert!(fields["subject"].as_str().is_some_and(|it| it.contains("rcgen")), "{record}");
    assert_eq!(fields["ca_sha256"].as_str().map(str::len), Some(64), "{record}");

    for target in ["/autotls", "/prometheus?exporter=e"] {
        let answer = plain::get(host.address(), target);
        assert!(!answer.contains("HTTP/"), "{target}: {answer}");
    }
    let refused = Client::connect(host.address(), stranger(&ca))
        .and_then(|mut client| client.send_get("/autotls").and_then(|()| client.read_head()));
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn before_enrolment_only_autotls_is_served() {
    let host = Host::new();
    for request in [
        "GET /prometheus",
        "GET /prometheus?exporter=e",
        "GET /",
        "GET /-/healthy",
        "GET /-/ready",
        "GET /autotls/",
        "GET //autotls",
        "GET /%61utotls",
        "GET /metrics",
        "GET http://h/metrics",
        "POST /-/reload",
        "DELETE /prometheus",
    ] {
        let bytes = format!("{request} HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = plain::exchange(host.address(), bytes);
        assert!(answer.starts_with("HTTP/1.1 403 not enrolled yet\r\n"), "{request}: {answer}");
        assert_eq!(plain::body(&answer), "not enrolled yet\n", "{request}");
    }
    let answer = plain::exchange(host.address(), "DELETE /autotls HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(plain::status(&answer), 405, "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nallow: get, head, post\r\n"), "{answer}");
    assert!(host.files().is_empty());
}

#[test]
fn a_signing_request_is_for_the_given_domain_or_for_this_host() {
    let host = Host::new();
    let own = host.signing_request("/autotls");
    assert_eq!(host.signing_request("/autotls?domain="), own, "the request is signed once");
    assert_eq!(host.signing_request("/autotls?other=%20"), own, "the request is signed once");
    let (_, alternatives) = names(&own);
    assert_eq!(alternatives.len(), 1);
    let (name, alternatives) = names(&host.signing_request("/autotls?domain=192.0.2.7"));
    assert_eq!((name.as_str(), alternatives), ("192.0.2.7", vec!["[192, 0, 2, 7]".to_owned()]));

    let key = host.read("agent.key");
    for target in [
        "/autotls?domain=a&domain=a",
        "/autotls?domain=a%20b",
        "/autotls?domain=a%0d%0ab",
        "/autotls?domain=%ff",
        "/autotls?domain=*",
        "/autotls?domain=https://a",
    ] {
        let answer = plain::get(host.address(), target);
        assert!(answer.starts_with("HTTP/1.1 400 bad domain parameter\r\n"), "{target}: {answer}");
    }
    assert_eq!(plain::status(&plain::get(host.address(), "/autotls?domain=%4")), 400);
    assert_eq!(host.read("agent.key"), key);
}

#[test]
fn the_default_key_is_rsa_4096_and_concurrent_requests_create_it_once() {
    let host = Host::with("", "", |_| ());
    let together = Barrier::new(4);
    let requests = thread::scope(|scope| {
        let ask = || {
            together.wait();
            host.signing_request("/autotls")
        };
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let requests = asking.into_iter().map(|asking| asking.join().expect("an answer"));
        requests.collect::<Vec<_>>()
    });
    assert!(requests.iter().all(|request| *request == requests[0]));
    host.proxy.wait_for_line(&["generated a key"]);
    let made =
        |lines: Vec<String>| lines.iter().filter(|it| it.contains("generated a key")).count();
    assert_eq!(made(host.proxy.log_lines()), 1);
    let (_, pem) = x509_parser::pem::parse_x509_pem(requests[0].as_bytes()).expect("PEM");
    let (_, csr) = X509CertificationRequest::from_der(&pem.contents).expect("a request");
    let key = csr.certification_request_info.subject_pki.parsed().expect("a public key");
    assert_eq!(key.key_size(), 4096);
    assert!(
        host.read("agent.key").starts_with("-----BEGIN PRIVATE KEY-----"),
        "PKCS #8, as the agent writes it"
    );
}

#[test]
fn if_two_servers_post_at_once_exactly_one_enrols_the_host() {
    let host = Host::new();
    host.signing_request("/autotls");
    let rivals = [new_ca("one"), new_ca("other")];
    let together = Barrier::new(2);
    let statuses = thread::scope(|scope| {
        let posting = rivals.each_ref().map(|ca| {
            let (host, together) = (&host, &together);
            scope.spawn(move || {
                let body = signed(&host.certificate(ca), &ca.pem());
                together.wait();
                plain::status(&host.post(&body))
            })
        });
        posting.map(|posting| posting.join().expect("an answer"))
    });
    let winner = statuses.iter().position(|status| *status == 200).expect("a successful post");
    // The other request came second, or after plain HTTP was closed.
    assert!([409, 0].contains(&statuses[1 - winner]), "{statuses:?}");
    host.wait_for_reloads(1);
    assert_eq!(host.read("server_ca.crt"), rivals[winner].pem());
    host.assert_serves(&rivals[winner]);
    assert!(
        Client::connect(host.address(), as_ca(&rivals[1 - winner])).is_err(),
        "the CA of the other server is not in use"
    );
}

#[test]
fn enrol_from_and_enrol_window_restrict_enrolment() {
    let elsewhere = Host::with("", "enrol-key = ecdsa\nenrol-from = 192.0.2.0/24, ::1\n", |_| ());
    let late = Host::with("", "enrol-key = ecdsa\nenrol-window = 0.000001\n", |_| ());
    let ca = new_ca("monitoring");
    for host in [elsewhere, late] {
        let get = plain::get(host.address(), "/autotls");
        let post = host.post(&signed(&ca.pem(), &ca.pem()));
        for answer in [get, post] {
            assert!(
                answer.starts_with("HTTP/1.1 403 enrollment is not open to you\r\n"),
                "{answer}"
            );
        }
        assert!(host.files().is_empty());
    }
    let here = "enrol-key = ecdsa\nenrol-from = 127.0.0.0/8\nenrol-window = 3600\n";
    Host::with("", here, |_| ()).signing_request("/autotls");
}

#[test]
fn enrolment_requires_user_and_password_as_the_agent_does() {
    let host = Host::with("auth = u:p\n", "enrol-key = ecdsa\nclient-allow = CN=x\n", |_| ());
    let answer = plain::get(host.address(), "/autotls");
    assert_eq!(plain::status(&answer), 401, "{answer}");
    let answer = host.post("{}");
    assert_eq!(plain::status(&answer), 401, "{answer}");
    assert!(host.files().is_empty());
    let request = "GET /autotls HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
                   Authorization: Basic dTpw\r\n\r\n";
    let answer = plain::exchange(host.address(), request);
    assert_eq!(plain::status(&answer), 200, "{answer}");
}
