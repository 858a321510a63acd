//! A certificate that expires while its client is connected: the proxy closes the connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, SupportedProtocolVersion};
use scrapegate_harness::{
    client::{Client, Cut},
    exporter::{Exporter, Gate},
    forge::{self, Authority, Credentials},
    metrics::assert_moves,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};
use time::OffsetDateTime;

use crate::Setup;

/// Validity of the certificates: long enough for a handshake on a busy machine.
const VALID_FOR: Duration = Duration::from_secs(4);

/// How much later than its certificate's expiry a connection may end on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// The notAfter time of certificates made now, and the moment when they expire on the test's clock.
/// A certificate is valid until the end of its last second.
fn end_of_validity() -> (OffsetDateTime, Instant) {
    let (now, wall) = (Instant::now(), OffsetDateTime::now_utc());
    let end = (wall + VALID_FOR).replace_nanosecond(0).expect("0 is in range");
    let left = end + Duration::from_secs(1) - wall;
    (end, now + Duration::try_from(left).expect("in the future"))
}

/// A client certificate that expires at `end`.
fn until(pki: &Pki, end: OffsetDateTime) -> Credentials {
    forge::credentials(pki.ca(), |params| params.not_after = end, &[])
}

fn config(
    pki: &Pki,
    version: &'static SupportedProtocolVersion,
    shown: &Credentials,
) -> Arc<ClientConfig> {
    pki.client_with(&[version], shown.chain.clone(), &shown.key)
}

/// A connection over which a scrape has succeeded.
#[track_caller]
fn connect(setup: &Setup, config: Arc<ClientConfig>) -> Client {
    let mut client = Client::connect(setup.address(), config).expect("a handshake");
    assert_eq!(client.get("/prometheus?exporter=e").head.status, 200);
    client
}

/// Scrapes once more, and waits until the scrape is counted: a later check counts other events.
#[track_caller]
fn assert_still_serves(setup: &Setup, client: &mut Client) {
    let series = "scrapegate_scrapes_total{exporter=\"e\",outcome=\"complete\"}";
    let scrape = || assert_eq!(client.get("/prometheus?exporter=e").head.status, 200);
    assert_moves(series, || setup.samples(), scrape);
}

/// Asserts that an idle connection is closed in order, and at the right time.
#[track_caller]
fn assert_ends_at(client: &mut Client, end: Instant) {
    assert_eq!(client.read_to_end(), (Vec::new(), Cut::CloseNotify));
    let now = Instant::now();
    assert!(now >= end, "{:?} early", end - now);
    assert!(now < end + SLACK, "{:?} late", now - end);
}

/// T37
#[test]
fn an_idle_connection_is_closed_when_its_certificate_expires() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let mut others = connect(&setup, pki.client(BOTH_VERSIONS));
    let (end, at) = end_of_validity();
    let shown = until(&pki, end);
    let clients =
        BOTH_VERSIONS.iter().map(|version| connect(&setup, config(&pki, version, &shown)));
    for mut client in clients.collect::<Vec<_>>() {
        assert_ends_at(&mut client, at);
    }
    assert_still_serves(&setup, &mut others);
    drop(others);
    for version in BOTH_VERSIONS {
        let alert = rustls::AlertDescription::CertificateExpired;
        setup.assert_refuses(config(&pki, version, &shown), alert);
    }
    let record = setup.proxy.wait_for_log("why it ended", |record| {
        record["fields"]["message"] == "closing connection: client no longer authorized"
    });
    let reason = record["fields"]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("the certificate expired on "), "{reason}");
    assert_eq!(record["fields"]["client"], "forged");
}

/// T37
#[test]
fn at_expiry_a_scrape_in_flight_is_finished_and_a_pipelined_one_does_not_begin() {
    let pki = Pki::new();
    let gate = Gate::default();
    let opened = gate.clone();
    let exporter = Exporter::start(move |conversation| {
        let request = conversation.read_request()?;
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na ";
        if request.contains("begun") {
            conversation.send(head)?;
            opened.wait();
        } else {
            opened.wait();
            conversation.send(head)?;
        }
        conversation.send("1\n")
    });
    let section = exporter.section("e") + "max-concurrent = 9\n";
    let proxy = Proxy::start(&pki.config_ini(""), &section);
    let at_rest = proxy.open_fds();
    let (end, at) = end_of_validity();
    let shown = until(&pki, end);
    let mut clients: Vec<_> = BOTH_VERSIONS
        .iter()
        .flat_map(|version| [("begun", version), ("waiting", version)])
        .map(|(case, version)| {
            let config = config(&pki, version, &shown);
            let mut client = Client::connect(proxy.address(), config).expect("a handshake");
            let request = format!("GET /prometheus?exporter=e&{case} HTTP/1.1\r\nHost: h\r\n\r\n");
            client.send(request.repeat(2)).expect("sent");
            let head = (case == "begun").then(|| client.read_head().expect("a head"));
            (client, head)
        })
        .collect();
    let mut expired = 0;
    proxy.wait_for_log("the end of each certificate", |record| {
        let reason = record["fields"]["reason"].as_str().unwrap_or_default();
        expired += usize::from(reason.starts_with("the certificate expired on "));
        expired == clients.len()
    });
    assert!(Instant::now() >= at, "{:?} early", at - Instant::now());
    gate.open();
    for (client, begun) in &mut clients {
        let head = match begun.take() {
            Some(head) => head,
            None => {
                let head = client.read_head().expect("a head");
                assert_eq!(head.header("connection"), Some("close"), "{head:?}");
                head
            }
        };
        assert_eq!(head.status, 200, "{head:?}");
        let body = client.read_body(&head);
        assert!(body.is_complete(), "{body:?}");
        assert_eq!(body.text(), "a 1\n");
        assert_eq!(client.read_to_end(), (Vec::new(), Cut::CloseNotify));
    }
    assert_eq!(exporter.connections(), clients.len());
    drop(clients);
    proxy.assert_at_rest(at_rest);
}

/// T37
#[test]
fn an_expiring_intermediate_closes_the_connection_if_the_chain_needs_it() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let (end, at) = end_of_validity();
    let intermediate = |issuer: &Authority| {
        let key = forge::new_key();
        Authority::signed_by(forge::authority_until(end), key, issuer).expect("a CA certificate")
    };
    let ours = intermediate(pki.ca());
    let other = forge::authority("another CA", forge::new_key(), -1..100);
    let beside = intermediate(&other);
    let mut kept = connect(
        &setup,
        config(&pki, BOTH_VERSIONS[0], &forge::credentials(pki.ca(), |_| {}, &[&beside])),
    );
    let mut ended = connect(
        &setup,
        config(&pki, BOTH_VERSIONS[0], &forge::credentials(&ours, |_| {}, &[&ours])),
    );
    assert_ends_at(&mut ended, at);
    assert_eq!(kept.get("/prometheus?exporter=e").head.status, 200);
}

#[test]
fn f12_a_connection_is_closed_when_the_ca_of_its_certificate_expires() {
    let pki = Pki::new();
    let (end, at) = end_of_validity();
    let ca = Authority::self_signed(forge::authority_until(end), forge::new_key());
    let ca = ca.expect("a CA certificate");
    let file = pki.path("trusted.pem");
    std::fs::write(&file, ca.pem() + &pki.ca().pem()).expect("written");
    let own = pki.path("ca.pem").display().to_string();
    let trusted = pki.config_ini("").replace(&own, &file.display().to_string());
    let setup = Setup::with_config(&pki, &trusted);
    let mut others = connect(&setup, pki.client(BOTH_VERSIONS));
    let shown = forge::credentials(&ca, |_| {}, &[]);
    let clients =
        BOTH_VERSIONS.iter().map(|version| connect(&setup, config(&pki, version, &shown)));
    for mut client in clients.collect::<Vec<_>>() {
        assert_ends_at(&mut client, at);
    }
    assert_still_serves(&setup, &mut others);
    drop(others);
    let alert = rustls::AlertDescription::CertificateExpired;
    setup.assert_refuses(config(&pki, BOTH_VERSIONS[0], &shown), alert);
}

/// T15
#[test]
fn f13_a_connection_is_closed_at_the_next_update_of_its_crl() {
    let pki = Pki::new();
    let (end, at) = end_of_validity();
    // A CRL is valid until its nextUpdate, a certificate until the end of its last second.
    let at = at - Duration::from_secs(1);
    let other = forge::authority("another CA", forge::new_key(), -1..100);
    let file = pki.path("trusted.pem");
    std::fs::write(&file, other.pem() + &pki.ca().pem()).expect("written");
    let begin = forge::in_days(-1);
    // An older CRL of the same CA, which is long out of date, and a CRL of the other CA.
    let lists = [
        forge::revocation_list(pki.ca(), &[], -9..-8),
        forge::revocation_list_until(pki.ca(), &[], begin, end),
        forge::revocation_list(&other, &[], -1..100),
    ];
    let list = pki.path("lists.pem");
    std::fs::write(&list, lists.concat()).expect("written");
    let own = pki.path("ca.pem").display().to_string();
    let keys = format!("client-crl = {}\n", list.display());
    let trusted = pki.config_ini(&keys).replace(&own, &file.display().to_string());
    let setup = Setup::with_config(&pki, &trusted);
    let series =
        format!("scrapegate_crl_next_update_timestamp_seconds{{file=\"{}\"}}", list.display());
    assert_eq!(setup.samples().get(&series), Some(end.unix_timestamp() as f64));

    let of_other = forge::credentials(&other, |_| {}, &[]);
    let mut others = connect(&setup, config(&pki, BOTH_VERSIONS[0], &of_other));
    let clients: Vec<_> =
        BOTH_VERSIONS.iter().map(|version| connect(&setup, pki.client(&[version]))).collect();
    for mut client in clients {
        assert_ends_at(&mut client, at);
    }
    assert_still_serves(&setup, &mut others);
    drop(others);
    let says = |message: &str, words: &str| {
        setup.proxy.wait_for_log("why", |record| {
            record["fields"]["message"] == message
                && record["fields"]["reason"].as_str().is_some_and(|it| it.contains(words))
        });
    };
    let words = "the CRL expired on ";
    says("closing connection: client no longer authorized", words);
    for version in BOTH_VERSIONS {
        let alert = rustls::AlertDescription::UnknownCA;
        setup.assert_refuses(pki.client(&[version]), alert);
    }
    says("TLS handshake failed", words);
}
