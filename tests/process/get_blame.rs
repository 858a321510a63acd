//! `scrapegate get`: which side it blames, and the proxy's password.

use std::{fs, net::TcpListener};

use scrapegate_harness::{client::Client, exporter::Conversation, pki::BOTH_VERSIONS};

use crate::{
    get::{Stage, answering, assert_failed},
    run, set_mode,
};

/// The names of the headers in the response to `path`.
fn headers(stage: &Stage, path: &str, name: &str) -> Vec<String> {
    let mut client = Client::connect(stage.proxy.address(), stage.pki.client(BOTH_VERSIONS))
        .expect("a handshake");
    let answer = client.get(path);
    let headers = answer.head.headers.into_iter();
    headers.filter(|(it, _)| it == name).map(|(_, value)| value).collect()
}

#[test]
fn f31_only_the_proxys_own_responses_have_its_server_header() {
    let stage = Stage::new(|conversation: &mut Conversation| {
        conversation.read_request()?;
        conversation.send(
            "HTTP/1.1 500 Oh\r\nServer: scrapegate\r\nWWW-Authenticate: Basic\r\n\
             Content-Length: 4\r\n\r\na 1\n",
        )
    });
    for path in ["/", "/metrics", "/prometheus", "/none", "/prometheus?exporter=none"] {
        assert_eq!(headers(&stage, path, "server"), ["scrapegate"], "{path}");
    }
    assert_eq!(headers(&stage, "/prometheus?exporter=e", "server"), [""; 0]);
    assert_eq!(headers(&stage, "/prometheus?exporter=e", "www-authenticate"), [""; 0]);
}

#[test]
fn f31_an_error_status_of_the_exporter_is_blamed_on_the_exporter() {
    for (status, told, hint) in [
        ("500 Oh no", "500 Internal Server Error", "the exporter's log"),
        ("401 Unauthorized", "401 Unauthorized", "`username` and `password-file`"),
        ("404 Not Found", "404 Not Found", "`path` in the exporter's section"),
        ("503 Service Unavailable", "503 Service Unavailable", "the exporter's log"),
    ] {
        let stage = Stage::new(move |conversation: &mut Conversation| {
            conversation.read_request()?;
            conversation.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
        });
        let words = format!("exporter: the exporter answered {told}");
        assert_failed(&stage.get(&[]), &[&words, hint]);
    }
}

#[test]
fn f31_an_exporter_slower_than_the_timeout_is_blamed() {
    let stage = Stage::new(|conversation: &mut Conversation| {
        conversation.read_request()?;
        conversation.wait_until_closed();
        Ok(())
    });
    assert_failed(
        &stage.get(&["--timeout", "2"]),
        &[
            "exporter: the proxy answered 504 exporter sent no first byte in time",
            "a longer --timeout",
        ],
    );
}

#[test]
fn f31_a_timeout_names_the_step_that_was_not_completed() {
    // The kernel accepts connections to this listener. No program reads them.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound");
    let get = |scheme: &str| {
        let url = format!("{scheme}://{address}");
        run(["get", "e", "--url", &url, "--timeout", "1"])
    };
    let handshake = format!("proxy: no TLS handshake with {address} within 1 s");
    assert_failed(&get("https"), &[&handshake]);
    assert_failed(&get("http"), &["proxy: no answer within 1 s"]);

    // Too long for a host name, so the test needs no name server.
    let host = format!("http://{}.invalid", "a".repeat(64));
    let words = ["network: cannot resolve the host name `aaaa", "name resolution"];
    assert_failed(&run(["get", "e", "--url", &host]), &words);
}

#[test]
fn f31_user_and_password_are_sent_to_a_proxy_with_auth() {
    let hash = bcrypt::hash("s3 cret", 4).expect("hashed");
    let stage = Stage::with(&format!("[default]\nauth = me:{hash}\n"), answering("a 1\n"));
    let file = |name: &str, text: &str| {
        let path = stage.files.path(name);
        fs::write(&path, text).expect("written");
        set_mode(&path, 0o600);
        path.display().to_string()
    };
    let (right, wrong) = (file("right", "s3 cret\n"), file("wrong", "other\n"));

    let unauthorized = ["proxy: the proxy answered 401 Unauthorized", "--user and --password-file"];
    assert_failed(&stage.get(&[]), &unauthorized);
    assert_failed(&stage.get(&["--user", "me", "--password-file", &wrong]), &unauthorized);
    assert_eq!(stage.exporter.requests().len(), 0);
    let ended = stage.get(&["--user", "me", "--password-file", &right]);
    assert_eq!((ended.code, &*ended.out), (Some(0), &["a 1".to_owned()][..]), "{}", ended.errors());

    set_mode(&stage.files.path("right"), 0o644);
    let open = stage.get(&["--user", "me", "--password-file", &right]);
    assert_failed(&open, &["client: --password-file: ", "can be read by everyone"]);
    assert!(!open.errors().contains("s3 cret"), "{}", open.errors());
    assert_eq!(stage.get(&["--user", "me"]).code, Some(2), "a user without a password");
    assert_eq!(stage.get(&["--password-file", &wrong]).code, Some(2));

    let elsewhere =
        ["get", "e", "--url", "http://192.0.2.1", "--user", "me", "--password-file", &wrong];
    assert_failed(
        &run(elsewhere),
        &["client: refusing to send a password over http:// to another host"],
    );
}
