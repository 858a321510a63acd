//! Certificates of https exporters as people often create them: self-signed and trusted directly,
//! and X.509 version 1.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::{
    pki_types::CertificateDer,
    version::{TLS12, TLS13},
};
use scrapegate_harness::{
    client::Client,
    exporter::{Conversation, Exporter},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
    version1::{pem, version1},
};
use time::{Duration, OffsetDateTime};

/// The certificate and key that an exporter uses.
struct Shown {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// The result of `openssl req -x509 -subj /CN=localhost`, with this subjectAltName.
fn params(names: &[&str], days: std::ops::Range<i64>) -> CertificateParams {
    let names: Vec<String> = names.iter().copied().map(String::from).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = OffsetDateTime::now_utc() + Duration::days(days.start);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(days.end);
    params
}

fn self_signed(names: &[&str], days: std::ops::Range<i64>) -> Shown {
    let key = KeyPair::generate().expect("a key");
    let certificate = params(names, days).self_signed(&key).expect("a certificate").into();
    Shown { certificate, key }
}

impl Shown {
    fn version1(self) -> Self {
        Self { certificate: version1(&self.certificate, &self.key), ..self }
    }
}

/// Scrapes an exporter with this certificate over each TLS version. Returns the outcomes: `ok`, or
/// the error in the log.
fn scrapes(shown: &Shown, keys: &dyn Fn(&Pki) -> String) -> [String; 2] {
    [&TLS12, &TLS13].map(|version| {
        let pki = Pki::new();
        let tls = Pki::server_with(&[version], vec![shown.certificate.clone()], &shown.key);
        let exporter = Exporter::start_tls_with(&pki, tls, |it: &mut Conversation| {
            it.read_request()?;
            it.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
        });
        let section = format!(
            "[e]\nenabled = True\nmethod = https\nhost = 127.0.0.1\nport = {}\npath = /metrics\n{}",
            exporter.address().port(),
            keys(&pki)
        );
        let proxy = Proxy::start(&pki.config_ini(""), &section);
        let mut client =
            Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
        let response = client.get("/prometheus?exporter=e");
        let record = proxy.wait_for_scrape("e");
        if response.head.status == 200 {
            assert_eq!(response.body.text(), "a 1\n");
            return "ok".to_owned();
        }
        assert_eq!(response.head.status, 502, "{record}");
        assert_eq!(record["outcome"], "exporter_tls", "{record}");
        record["cause"].as_str().expect("a cause").to_owned()
    })
}

/// `ca-file` with these certificates, and `server-name`.
fn trusting<'a>(anchors: &'a [&CertificateDer<'_>], name: &'a str) -> impl Fn(&Pki) -> String + 'a {
    move |pki| {
        let file = pki.path("exporter-ca.pem");
        let all: String = anchors.iter().map(|anchor| pem(anchor)).collect();
        std::fs::write(&file, all).expect("written");
        format!("ca-file = {}\nserver-name = {name}\n", file.display())
    }
}

fn skipping(_: &Pki) -> String {
    "insecure-skip-verify = True\n".to_owned()
}

#[track_caller]
fn assert_scraped(shown: &Shown, keys: &dyn Fn(&Pki) -> String) {
    assert_eq!(scrapes(shown, keys), ["ok", "ok"]);
}

#[track_caller]
fn assert_refused(shown: &Shown, keys: &dyn Fn(&Pki) -> String, why: &str) {
    for cause in scrapes(shown, keys) {
        assert!(cause.contains(why), "{cause}");
    }
}

#[test]
fn f08_a_self_signed_certificate_in_ca_file_is_trusted_within_its_dates_and_for_its_name() {
    let shown = self_signed(&["localhost"], -1..100);
    let own = [&shown.certificate];
    assert_scraped(&shown, &trusting(&own, "localhost"));
    let why = "not valid for exporter.example: it is for localhost";
    assert_refused(&shown, &trusting(&own, "exporter.example"), why);
    // The common name is not used as a name, because the certificate has a subjectAltName.
    let shown = self_signed(&["exporter.example"], -1..100);
    let own = [&shown.certificate];
    assert_refused(&shown, &trusting(&own, "localhost"), "not valid for localhost");
    for (days, why) in [(-10..-1, "the certificate expired on "), (1..10, "is not valid before ")] {
        let shown = self_signed(&["localhost"], days);
        let own = [&shown.certificate];
        assert_refused(&shown, &trusting(&own, "localhost"), why);
    }
}

#[test]
fn f08_another_self_signed_certificate_with_the_same_name_is_not_trusted() {
    let (trusted, shown) =
        (self_signed(&["localhost"], -1..100), self_signed(&["localhost"], -1..100));
    let why = "the peer's certificate is a CA certificate that is not in the trusted file";
    assert_refused(&shown, &trusting(&[&trusted.certificate], "localhost"), why);
    // A copy of the certificate without its private key does not authenticate anyone.
    let thief = Shown { certificate: trusted.certificate.clone(), key: shown.key };
    assert_refused(&thief, &trusting(&[&trusted.certificate], "localhost"), "handshake");
    assert_refused(&thief, &skipping, "handshake");
}

#[test]
fn f09_a_version_1_exporter_certificate_is_trusted_for_its_common_name() {
    let shown = self_signed(&[], -1..100).version1();
    let own = [&shown.certificate];
    assert_scraped(&shown, &trusting(&own, "LocalHost"));
    assert_scraped(&shown, &skipping);
    let why = "not valid for exporter.example: it is for localhost";
    assert_refused(&shown, &trusting(&own, "exporter.example"), why);
    let thief = Shown { certificate: shown.certificate.clone(), key: self_signed(&[], 0..1).key };
    assert_refused(&thief, &trusting(&own, "localhost"), "handshake");
    assert_refused(&thief, &skipping, "handshake");
    let expired = self_signed(&[], -10..-1).version1();
    let own = [&expired.certificate];
    assert_refused(&expired, &trusting(&own, "localhost"), "the certificate expired on ");
    assert_scraped(&expired, &skipping);
}

#[test]
fn f09_a_version_1_exporter_certificate_is_trusted_if_its_ca_is() {
    let (ca, other) = (self_signed(&[], -1..100), self_signed(&[], -1..100));
    let old_ca = version1(&ca.certificate, &ca.key);
    let mut leaf = self_signed(&[], -1..100);
    leaf.certificate = version1(&leaf.certificate, &ca.key);
    for anchor in [&ca.certificate, &old_ca] {
        assert_scraped(&leaf, &trusting(&[&other.certificate, anchor], "localhost"));
    }
    let why = "not signed by a trusted CA";
    assert_refused(&leaf, &trusting(&[&other.certificate], "localhost"), why);
}

#[test]
fn f12_an_exporter_whose_ca_is_outside_its_validity_is_refused() {
    for (days, why) in [(-10..-1, "the CA certificate expired on "), (1..10, "not valid before ")] {
        let ca_key = KeyPair::generate().expect("a key");
        let ca_params = params(&[], days);
        let ca = ca_params.self_signed(&ca_key).expect("a certificate");
        let issuer = rcgen::Issuer::new(ca_params, ca_key);
        let key = KeyPair::generate().expect("a key");
        let mut leaf = params(&["localhost"], -1..100);
        leaf.is_ca = IsCa::ExplicitNoCa;
        let certificate = leaf.signed_by(&key, &issuer).expect("a certificate").into();
        let shown = Shown { certificate, key };
        assert_refused(&shown, &trusting(&[ca.der()], "localhost"), why);
    }
}

#[test]
fn f09_a_version_1_client_certificate_is_sent_to_an_exporter_that_requests_one() {
    let (pki, exporters_ca) = (Pki::new(), Pki::new());
    let key = KeyPair::from_pem(
        &std::fs::read_to_string(exporters_ca.path("client.key")).expect("a key"),
    );
    let signed = params(&[], -1..100).signed_by(&key.expect("a key"), exporters_ca.ca());
    let old = version1(signed.expect("a certificate").der(), exporters_ca.ca().key());
    std::fs::write(exporters_ca.path("client.pem"), pem(&old)).expect("written");
    // The exporter accepts any client certificate. The test is about which certificate it receives.
    let exporter = Exporter::start_tls(&exporters_ca, |it: &mut Conversation| {
        it.read_request()?;
        it.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
    });
    let section = format!(
        "{}cert-file = {}\nkey-file = {}\n",
        exporter.section("e"),
        exporters_ca.path("client.pem").display(),
        exporters_ca.path("client.key").display()
    );
    let proxy = Proxy::start(&pki.config_ini(""), &section);
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    assert_eq!(client.get("/prometheus?exporter=e").head.status, 200);
}

#[test]
fn f08_with_skip_verify_an_unknown_critical_extension_is_accepted_and_the_signature_still_checked()
{
    let unknown = || {
        // An OID reserved for documentation, with NULL as its contents.
        let mut unknown = rcgen::CustomExtension::from_oid_content(&[2, 999, 3], vec![5, 0]);
        unknown.set_criticality(true);
        unknown
    };
    let key = KeyPair::generate().expect("a key");
    let mut with_it = params(&["localhost"], -1..100);
    with_it.custom_extensions.push(unknown());
    let certificate = with_it.self_signed(&key).expect("a certificate").into();
    let shown = Shown { certificate, key };
    assert_scraped(&shown, &skipping);
    let own = [&shown.certificate];
    let why = "a certificate has a critical extension that is not supported";
    assert_refused(&shown, &trusting(&own, "localhost"), why);
    let thief = Shown { certificate: shown.certificate.clone(), key: self_signed(&[], 0..1).key };
    assert_refused(&thief, &skipping, "the handshake is not signed with the certificate's key");
}
