//! Requirements beyond a certificate of the right CA.

use std::{net::Ipv6Addr, sync::Arc};

use aws_lc_rs::digest::{self, SHA256};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{PublicKeyData, SanType};
use rustls::ClientConfig;
use scrapegate_harness::{
    body::hex,
    client::{Client, Cut, Response},
    forge,
    pki::{BOTH_VERSIONS, Pki},
};

use crate::Setup;

/// A proxy that requires a user and a password.
fn with_password(pki: &Pki, auth: &str, proxy_keys: &str) -> Setup {
    let config = pki.config_ini(proxy_keys);
    let config = config.replacen("[default]\n", &format!("[default]\nauth = {auth}\n"), 1);
    let mut setup = Setup::with_config(pki, &config);
    setup.credentials = format!("Authorization: Basic {}\r\n", STANDARD.encode(auth));
    setup
}

fn connect(setup: &Setup, config: Arc<ClientConfig>) -> Client {
    Client::connect(setup.address(), config).expect("a handshake")
}

fn scrape_as(client: &mut Client, credentials: &str) -> Response {
    let token = STANDARD.encode(credentials);
    client
        .send(format!(
            "GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {token}\r\n\r\n"
        ))
        .expect("sent");
    client.read_response().expect("a response")
}

/// T16
#[test]
fn a_client_that_is_not_on_the_list_gets_403_for_everything() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "client-allow = CN=somebody-else, DNS:*.example.org\n");
    let targets = ["/prometheus?exporter=e", "/prometheus", "/-/healthy", "/nothing"];
    let cases = BOTH_VERSIONS.iter().flat_map(|version| targets.map(|target| (version, target)));
    for (&version, target) in cases {
        let mut client = connect(&setup, pki.client(&[version]));
        let response = client.get(target);
        assert_eq!(response.head.status, 403, "{response:?}");
        assert_eq!(response.head.header("connection"), Some("close"));
        let text = "client certificate is not on client-allow";
        assert_eq!((response.head.reason.as_str(), response.body.text().trim_end()), (text, text));
        assert_eq!(client.read_to_end(), (Vec::new(), Cut::CloseNotify));
    }
    let refused = BOTH_VERSIONS.len() * targets.len();
    setup.proxy.assert_logged("request refused", refused as u64);
    let lines = setup.proxy.log_lines();
    let reason = "\"reason\":\"not_allowed\"";
    assert_eq!(lines.iter().filter(|line| line.contains(reason)).count(), refused, "{lines:#?}");
    assert_eq!(setup.exporter.connections(), 0);
}

#[test]
fn any_name_of_a_client_can_be_on_the_list() {
    let pki = Pki::new();
    for allow in ["CN=scraper", "CN=s*", "DNS:*.example", "CN=other, DNS:scraper.example"] {
        let setup = Setup::new(&pki, &format!("client-allow = {allow}\n"));
        setup.assert_accepts(pki.client(BOTH_VERSIONS));
    }
}

/// Entries that match the client, and entries that almost match it.
#[test]
fn addresses_uris_and_keys_on_the_list_match_exactly() {
    let pki = Pki::new();
    let client = forge::credentials(
        pki.ca(),
        |params| {
            params.subject_alt_names = vec![
                SanType::IpAddress([192, 0, 2, 7].into()),
                SanType::IpAddress(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into()),
                SanType::URI("spiffe://example/prometheus".try_into().expect("ASCII")),
            ];
        },
        &[],
    );
    let spki = client.key.subject_public_key_info();
    let [pin, of_certificate, of_bare_key] =
        [&spki[..], &client.chain[0], client.key.public_key_raw()]
            .map(|bytes| hex(digest::digest(&SHA256, bytes).as_ref()));
    let pairs: Vec<_> = pin.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
    let pairs = pairs.join(":").to_uppercase();
    let [right, wrong] = [
        [
            "IP:192.0.2.7".to_owned(),
            "IP:192.0.2.0/29".to_owned(),
            "IP:2001:db8::7".to_owned(),
            "IP:2001:db8::/64".to_owned(),
            "URI:spiffe://example/prometheus".to_owned(),
            "URI:spiffe://*/prom*".to_owned(),
            format!("sha256:{pin}"),
            format!("sha256:{pairs}"),
        ],
        [
            // The source address is not a name in the certificate.
            "IP:127.0.0.1".to_owned(),
            "IP:192.0.2.8/29".to_owned(),
            "IP:2001:db8::8".to_owned(),
            "URI:spiffe://example/prom".to_owned(),
            "URI:spiffe://example/Prometheus".to_owned(),
            "DNS:*".to_owned(),
            format!("sha256:{of_certificate}"),
            format!("sha256:{of_bare_key}"),
        ],
    ];
    let config = pki.client_with(BOTH_VERSIONS, client.chain, &client.key);
    for allow in right {
        let setup = Setup::new(&pki, &format!("client-allow = {allow}\n"));
        let status = connect(&setup, config.clone()).get("/prometheus?exporter=e").head.status;
        assert_eq!(status, 200, "{allow}");
    }
    let setup = Setup::new(&pki, &format!("client-allow = {}\n", wrong.join(", ")));
    let response = connect(&setup, config).get("/prometheus?exporter=e");
    assert_eq!(response.head.status, 403, "{response:?}");
    assert_eq!(setup.exporter.connections(), 0);
}

#[test]
fn a_client_without_the_password_gets_401_and_may_try_again() {
    let pki = Pki::new();
    let setup = with_password(&pki, "user:pass:word", "");
    let mut client = connect(&setup, pki.client(BOTH_VERSIONS));
    let response = client.get("/prometheus?exporter=e");
    assert_eq!(response.head.status, 401, "{response:?}");
    let challenge = response.head.header("www-authenticate").expect("a challenge");
    assert!(challenge.starts_with("Basic realm="), "{challenge}");
    for wrong in ["user:pass", "user:pass:word2", "User:pass:word", "user", ":", ""] {
        let response = scrape_as(&mut client, wrong);
        assert_eq!(response.head.status, 401, "{wrong}");
        assert!(response.head.header("www-authenticate").is_some());
    }
    assert_eq!(client.get("/-/healthy").head.status, 401);
    assert_eq!(setup.exporter.connections(), 0);
    let response = scrape_as(&mut client, "user:pass:word");
    assert_eq!((response.head.status, response.body.bytes), (200, 100), "{response:?}");
    assert_does_not_log(&setup, "pass:word");
}

#[test]
fn the_password_may_be_a_bcrypt_hash() {
    let pki = Pki::new();
    let hash = bcrypt::hash("secret", 4).expect("a hash");
    let setup = with_password(&pki, &format!("user:{hash}"), "");
    let mut client = connect(&setup, pki.client(BOTH_VERSIONS));
    for (credentials, status) in [
        ("user:wrong", 401),
        ("user:secret", 200),
        ("user:secret", 200),
        ("user:wrong", 401),
        ("other:secret", 401),
        // The hash itself is not accepted as the password.
        (&format!("user:{hash}"), 401),
    ] {
        let response = scrape_as(&mut client, credentials);
        assert_eq!(response.head.status, status, "{credentials}");
    }
    assert_does_not_log(&setup, &hash);
    assert_does_not_log(&setup, "secret");
}

#[test]
fn a_password_does_not_replace_a_certificate() {
    let pki = Pki::new();
    let setup = with_password(&pki, "user:word", "");
    let alert = rustls::AlertDescription::CertificateRequired;
    setup.assert_refuses(pki.stranger(BOTH_VERSIONS), alert);
    let setup = with_password(&pki, "user:word", "client-allow = CN=somebody-else\n");
    let mut client = connect(&setup, pki.client(BOTH_VERSIONS));
    assert_eq!(scrape_as(&mut client, "user:word").head.status, 403);
}

#[test]
fn without_client_certificates_the_password_is_still_required() {
    let pki = Pki::new();
    let setup = with_password(&pki, "user:word", "client-auth = none\n");
    let mut client = connect(&setup, pki.stranger(BOTH_VERSIONS));
    assert_eq!(client.get("/prometheus?exporter=e").head.status, 401);
    assert_eq!(scrape_as(&mut client, "user:word").head.status, 200);
    assert_eq!(setup.proxy.wait_for_scrape("e")["client"], "-");
    setup.proxy.wait_for_log("a warning about the open door", |record| {
        record["level"] == "WARN"
            && record["fields"]["message"]
                .as_str()
                .is_some_and(|it| it.contains("accepted, without a client certificate"))
    });
}

#[test]
fn the_record_of_a_scrape_names_the_client() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    setup.assert_accepts(pki.client(BOTH_VERSIONS));
    let record = setup.proxy.wait_for_scrape("e");
    assert_eq!(record["client"], "scraper");
    assert_eq!((&record["outcome"], &record["status"]), (&"complete".into(), &200.into()));
    assert!(record["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")));
}

#[test]
fn a_name_with_control_characters_is_escaped_in_the_log() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let hostile = forge::credentials(
        pki.ca(),
        |params| {
            params.distinguished_name.push(rcgen::DnType::CommonName, "a\u{1b}[31m\nb\u{202e}")
        },
        &[],
    );
    setup.assert_accepts(pki.client_with(BOTH_VERSIONS, hostile.chain, &hostile.key));
    let record = setup.proxy.wait_for_scrape("e");
    assert_eq!(record["client"], "a\\u{1b}[31m\\nb\\u{202e}");
}

#[track_caller]
fn assert_does_not_log(setup: &Setup, secret: &str) {
    let lines = setup.proxy.log_lines();
    assert!(!lines.iter().any(|line| line.contains(secret)), "{lines:#?}");
}
