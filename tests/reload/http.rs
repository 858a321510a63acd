//! `POST /-/reload`: answered when the reload has finished, and only if `http-reload` is on.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use scrapegate_harness::{
    client::{Client, Response},
    forge,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

use super::{DONE, EXPORTERS, assert_status, connect, exporter, replace, wait_for, write};
const ON: &str = "http-reload = True\n";

fn send(client: &mut Client, method: &str, headers: &str) -> Response {
    client
        .send(format!("{method} /-/reload HTTP/1.1\r\nHost: h\r\n{headers}\r\n"))
        .expect("the request is sent");
    client.read_response().expect("a response")
}

#[track_caller]
fn assert_answer(response: &Response, status: u16, reason: &str, body: &str) {
    let said = (response.head.status, response.head.reason.as_str(), response.body.text());
    assert_eq!(said, (status, reason, body.to_owned()));
}

#[test]
fn the_response_comes_when_the_new_state_is_in_use() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(ON), &one.section("e0"));
    let mut client = connect(&pki, &proxy);
    for round in 1..20 {
        write(&proxy, EXPORTERS, &one.section(&format!("e{round}")));
        // With and without the header that some clients add.
        let headers = if round % 2 == 0 { "Content-Length: 0\r\n" } else { "" };
        assert_answer(&send(&mut client, "POST", headers), 200, "OK", "reloaded\n");
        assert_status(&mut client, &format!("e{round}"), 200);
        assert_status(&mut client, &format!("e{}", round - 1), 404);
    }
}

#[test]
fn a_refused_state_is_500_with_constant_words() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(ON), &one.section("e"));
    let mut client = connect(&pki, &proxy);
    write(&proxy, EXPORTERS, "[broken\n");
    let refused = "reload refused: see the log";
    for _ in 0..2 {
        let response = send(&mut client, "POST", "");
        assert_answer(&response, 500, refused, &format!("{refused}\n"));
        assert_status(&mut client, "e", 200);
    }
    proxy.wait_for_log("who asked", |record| record["fields"]["reason"] == "reload_refused");
    write(&proxy, EXPORTERS, &one.section("e"));
    assert_answer(&send(&mut client, "POST", ""), 200, "OK", "reloaded\n");
}

#[test]
fn without_http_reload_the_path_is_404_and_with_it_only_post_is_allowed() {
    let pki = Pki::new();
    let proxy = Proxy::start(&pki.config_ini(""), &exporter(100).section("e"));
    let mut client = connect(&pki, &proxy);
    for method in ["GET", "POST", "PUT"] {
        assert_answer(&send(&mut client, method, ""), 404, "Not Found", "Not Found\n");
    }
    write(&proxy, "config.ini", &pki.config_ini(ON));
    proxy.signal("HUP");
    wait_for(&proxy, DONE, 1);
    assert_answer(&send(&mut client, "POST", ""), 200, "OK", "reloaded\n");
    let response = send(&mut client, "POST", "Content-Length: 1\r\n");
    assert_eq!(response.head.status, 400, "{response:?}");
    for method in ["GET", "PUT"] {
        let response = send(&mut connect(&pki, &proxy), method, "");
        assert_answer(&response, 405, "Method Not Allowed", "Method Not Allowed\n");
        assert_eq!(response.head.header("allow"), Some("POST"), "{method}");
        assert_eq!(response.head.header("connection"), Some("close"), "{method}");
    }
}

#[test]
fn a_client_that_may_not_scrape_may_not_reload() {
    let pki = Pki::new();
    let config = pki.config_ini(ON).replace("[default]\n", "[default]\nauth = user:pass\n");
    let proxy = Proxy::start(&config, &exporter(100).section("e"));
    let mut client = connect(&pki, &proxy);
    let unauthorized = send(&mut client, "POST", "");
    assert_eq!(unauthorized.head.status, 401, "{unauthorized:?}");
    let right = "Authorization: Basic dXNlcjpwYXNz\r\n";
    assert_answer(&send(&mut client, "POST", right), 200, "OK", "reloaded\n");

    write(&proxy, "config.ini", &pki.config_ini(&format!("{ON}client-allow = CN=other\n")));
    assert_answer(&send(&mut client, "POST", right), 200, "OK", "reloaded\n");
    let not_allowed = send(&mut connect(&pki, &proxy), "POST", "");
    assert_eq!(not_allowed.head.status, 403, "{not_allowed:?}");
    assert!(
        Client::connect(proxy.address(), pki.stranger(BOTH_VERSIONS))
            .and_then(|mut stranger| {
                stranger.send("POST /-/reload HTTP/1.1\r\nHost: h\r\n\r\n")?;
                stranger.read_response()
            })
            .is_err()
    );
}

/// Each client requests a reload immediately after its change, while others do the same. The state
/// that it then sees must include its change. Many CRLs make a reload slow, so that most requests
/// arrive while a reload runs.
#[test]
fn each_of_many_concurrent_requests_gets_a_reload_that_began_after_it() {
    const CLIENTS: usize = 4;
    const ROUNDS: usize = 5;
    let pki = Pki::new();
    let list = forge::revocation_list(pki.ca(), &[], -1..100);
    fs::write(pki.path("lists.pem"), list.repeat(500)).expect("written");
    let keys = format!("{ON}client-crl = {}\n", pki.path("lists.pem").display());
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(&keys), &one.section("n0"));
    let exporters = proxy.folder().join(EXPORTERS);
    let written = AtomicUsize::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = connect(&pki, &proxy);
                    for _ in 0..ROUNDS {
                        let before = written.load(Ordering::SeqCst);
                        assert_answer(&send(&mut client, "POST", ""), 200, "OK", "reloaded\n");
                        let list = client.get("/prometheus").body.text();
                        let name = list.trim_matches(|c: char| !c.is_ascii_digit());
                        let seen: usize = name.parse().expect("a number");
                        assert!(
                            seen >= before,
                            "{seen} after a reload that was asked for at {before}"
                        );
                    }
                })
            })
            .collect();
        let mut round = 0;
        while !clients.iter().all(|client| client.is_finished()) {
            round += 1;
            replace(&exporters, &one.section(&format!("n{round}")));
            written.store(round, Ordering::SeqCst);
            thread::yield_now();
        }
    });
    let lines = proxy.log_lines();
    let reloads = lines.iter().filter(|line| line.contains("\"reloaded\"")).count();
    assert!(reloads < CLIENTS * ROUNDS, "{reloads} reloads: none was shared");
}
