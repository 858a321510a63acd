use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, crypto::CryptoProvider,
    crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::prelude::{
    FromDer as _, GeneralName, ParsedExtension, X509Certificate, X509CertificationRequest,
};

use super::*;

fn authority() -> Authority {
    Authority::generate("scrapegate test CA", Validity::Permanent).expect("a CA")
}

fn hosts(hosts: &[&str]) -> Vec<String> {
    hosts.iter().map(|&host| host.to_owned()).collect()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.pair().certificate()).expect("a trust anchor");
    Arc::new(roots)
}

/// A mutual handshake in memory. `clients` is the CA whose client certificates the server accepts.
async fn handshake(
    server: &Pair,
    client: &Pair,
    servers: &Authority,
    clients: &Authority,
    name: &str,
) -> Result<(), std::io::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(clients), provider())
        .build()
        .expect("a verifier");
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.certificate()], server.key())
        .expect("a matching pair");
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots(servers))
        .with_client_auth_cert(vec![client.certificate()], client.key())
        .expect("a matching pair");
    let name = ServerName::try_from(name.to_owned()).expect("a server name");
    let (near, far) = tokio::io::duplex(16 * 1024);
    let (accepted, connected) = tokio::join!(
        TlsAcceptor::from(Arc::new(server)).accept(near),
        TlsConnector::from(Arc::new(client)).connect(name, far),
    );
    connected?;
    accepted.map(drop)
}

#[tokio::test]
async fn server_and_client_accept_each_other_by_dns_name_and_by_address() {
    let authority = authority();
    let names = ["metrics.example.org", "localhost", "127.0.0.1", "::1"];
    let server = authority.server_pair(&hosts(&names)).expect("a pair");
    let client = authority.client_pair("prometheus").expect("a pair");
    for name in names {
        handshake(&server, &client, &authority, &authority, name)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test]
async fn a_name_that_is_not_in_the_certificate_is_refused() {
    let authority = authority();
    let server = authority.server_pair(&hosts(&["localhost"])).expect("a pair");
    let client = authority.client_pair("prometheus").expect("a pair");
    for name in ["example.org", "127.0.0.1"] {
        handshake(&server, &client, &authority, &authority, name).await.expect_err(name);
    }
}

#[tokio::test]
async fn a_client_of_another_ca_of_the_same_name_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let server = ours.server_pair(&hosts(&["localhost"])).expect("a pair");
    let client = theirs.client_pair("prometheus").expect("a pair");
    handshake(&server, &client, &ours, &ours, "localhost").await.expect_err("an unknown issuer");
}

#[tokio::test]
async fn server_and_client_certificates_cannot_replace_each_other() {
    let authority = authority();
    let server = authority.server_pair(&hosts(&["localhost"])).expect("a pair");
    let client = authority.client_pair("localhost").expect("a pair");
    handshake(&server, &server, &authority, &authority, "localhost")
        .await
        .expect_err("not for clients");
    handshake(&client, &client, &authority, &authority, "localhost")
        .await
        .expect_err("not for servers");
}

#[test]
fn validity_starts_an_hour_ago_and_ends_as_documented() {
    for (validity, authority_days, leaf_days) in
        [(Validity::Permanent, 3653, 825), (Validity::OneDay, 1, 1)]
    {
        let authority = Authority::generate("CA", validity).expect("a CA");
        let client = authority.client_pair("client").expect("a pair");
        for (der, days) in
            [(authority.pair().certificate(), authority_days), (client.certificate(), leaf_days)]
        {
            let (_, parsed) = X509Certificate::from_der(&der).expect("DER");
            let start = parsed.validity().not_before.timestamp();
            let end = parsed.validity().not_after.timestamp();
            let age = OffsetDateTime::now_utc().unix_timestamp() - start;
            assert!((3600..3660).contains(&age), "{validity:?}: {age} s ago");
            assert_eq!(end - start + 1, days * 24 * 60 * 60, "{validity:?}");
        }
    }
}

#[test]
fn a_ca_may_sign_certificates_and_crls_and_a_leaf_may_not() {
    let authority = authority();
    let (ca, leaf) = (
        authority.pair().certificate(),
        authority.client_pair("client").expect("a pair").certificate(),
    );
    let (_, ca) = X509Certificate::from_der(&ca).expect("DER");
    let (_, leaf) = X509Certificate::from_der(&leaf).expect("DER");
    let usage = |certificate: &X509Certificate<'_>| {
        let usage = certificate.key_usage().expect("well-formed");
        let usage = usage.expect("key usage").value;
        (usage.key_cert_sign(), usage.crl_sign())
    };
    assert!(ca.is_ca());
    assert!(!leaf.is_ca());
    assert_eq!(usage(&ca), (true, true));
    assert_eq!(usage(&leaf), (false, false));
    assert_eq!(ca.subject().to_string(), "CN=scrapegate test CA");
    assert_eq!(leaf.issuer(), ca.subject());
}

#[test]
fn the_first_host_is_the_common_name_unless_it_is_too_long() {
    let authority = authority();
    let long = format!("{}.example.org", "a".repeat(60));
    for (host, subject) in [("localhost", "CN=localhost"), (long.as_str(), "")] {
        let pair = authority.server_pair(&hosts(&[host, "10.0.0.1"])).expect("a pair");
        let der = pair.certificate();
        let (_, parsed) = X509Certificate::from_der(&der).expect("DER");
        assert_eq!(parsed.subject().to_string(), subject);
    }
}

#[test]
fn every_bad_host_is_named_with_a_hint() {
    let refused = authority()
        .server_pair(&hosts(&[
            "good.example.org",
            "two words",
            "host:3333",
            "[::1]",
            "https://host",
            "host/metrics",
            "*.example.org",
            "bücher.example",
            "example.org.",
            "300.0.0.1",
            "",
        ]))
        .expect_err("bad hosts");
    assert_eq!(
        refused.to_string(),
        "not a valid host name or IP address: `two words`, `host:3333` (leave out the port), \
         `[::1]` (write an IPv6 address without brackets), `https://host` (write only the host, not a URL), \
         `host/metrics` (write only the host, not a URL), \
         `*.example.org` (wildcards are not supported), \
         `bücher.example` (write it in its `xn--` form), \
         `example.org.` (remove the dot at the end), `300.0.0.1`, ``"
    );
}

#[test]
fn a_server_without_a_host_is_refused() {
    assert!(matches!(authority().server_pair(&[]), Err(Error::NoHost)));
}

#[test]
fn debug_shows_no_key() {
    let authority = authority();
    let pair = authority.client_pair("client").expect("a pair");
    let secret = pair.key_pem.lines().nth(1).expect("base64");
    let shown = format!("{pair:?} {authority:?}");
    assert!(!shown.contains(secret));
    assert!(!shown.contains("PRIVATE KEY"));
    assert!(shown.contains("BEGIN CERTIFICATE"));
}

#[test]
fn a_signing_request_is_for_the_host_and_its_common_name_is_the_host_unless_it_is_too_long() {
    let key = KeyPair::generate().expect("a key");
    let (longest, too_long) =
        (format!("{}.org", "a".repeat(60)), format!("{}.org", "a".repeat(61)));
    for (host, subject) in [
        ("localhost", "CN=localhost"),
        ("192.0.2.1", "CN=192.0.2.1"),
        (longest.as_str(), &format!("CN={longest}")),
        (too_long.as_str(), ""),
    ] {
        let pem = signing_request(host, &key).expect(host);
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
        assert_eq!(pem.label, "CERTIFICATE REQUEST");
        let (_, request) = X509CertificationRequest::from_der(&pem.contents).expect("a request");
        request.verify_signature().expect("signed with the key");
        let info = &request.certification_request_info;
        assert_eq!(info.subject.to_string(), subject);
        let names = request.requested_extensions().into_iter().flatten().find_map(|extension| {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { return None };
            Some(names.general_names.clone())
        });
        let expected = match host.parse::<std::net::Ipv4Addr>() {
            Ok(_) => vec![GeneralName::IPAddress(&[192, 0, 2, 1])],
            Err(_) => vec![GeneralName::DNSName(host)],
        };
        assert_eq!(names, Some(expected));
    }
    let refused = signing_request("host:3333", &key).expect_err("a port");
    assert!(matches!(refused, Error::BadHosts(hosts) if hosts == ["host:3333"]));
}

#[test]
fn a_host_is_a_dns_name_or_an_address() {
    for (host, expected) in [
        ("localhost", true),
        ("a.example", true),
        ("::1", true),
        ("a.example.", false),
        ("", false),
    ] {
        assert_eq!(is_host(host), expected, "{host:?}");
    }
}
