//! An openITCOCKPIT server enrolls a host and renews its certificate. curl makes the server's
//! requests, openssl its signatures.

use std::{fs, path::Path, time::Instant};

use scrapegate_harness::proxy::Proxy;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    daemons::{Daemon, curl},
    openssl_pki::openssl,
};

/// The kind of CA that the server has.
#[derive(Clone, Copy, Debug)]
enum Ca {
    /// `CA:TRUE`, as `openssl req -x509` has it by default.
    WithConstraints,
    /// Without basicConstraints. OpenSSL does not treat this certificate as a CA when it verifies,
    /// so the server does not verify.
    WithoutConstraints,
}

/// The kind of certificate that the server issues.
#[derive(Clone, Copy, Debug)]
enum Signs {
    /// With the requested names.
    WithNames,
    /// Without any extension: X.509 version 1.
    WithoutExtensions,
}

/// The server's folder: its CA, and the files that it fetches and signs.
struct Server {
    folder: TempDir,
    ca: Ca,
    signs: Signs,
}

impl Server {
    fn new(ca: Ca, signs: Signs) -> Self {
        let folder = TempDir::with_prefix("scrapegate-server-").expect("a temporary folder");
        let at = folder.path();
        fs::write(at.join("names.cnf"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            .expect("names.cnf written");
        fs::write(at.join("bare.cnf"), "[req]\ndistinguished_name = name\n[name]\n")
            .expect("bare.cnf written");
        let new = "req -x509 -newkey rsa:4096 -nodes -keyout ca.key -out ca.pem -days 3650 \
                   -subj /CN=openITCOCKPIT";
        match ca {
            Ca::WithConstraints => {
                openssl(at, &format!("{new} -addext basicConstraints=critical,CA:TRUE"))
            }
            Ca::WithoutConstraints => {
                openssl(at, &format!("{new} -config bare.cnf -addext subjectKeyIdentifier=hash"))
            }
        }
        Self { folder, ca, signs }
    }

    fn at(&self) -> &Path {
        self.folder.path()
    }

    /// Runs curl with these arguments, which are separated by blanks. Returns the body and the
    /// status.
    fn curl(&self, words: &str) -> (String, String) {
        let at = self.at().display();
        let words = words.replace("ca.", &format!("{at}/ca.")).replace('@', &format!("@{at}/"));
        let output = curl(words.split_whitespace().chain(["--write-out", "\n%{http_code}"]));
        let text = String::from_utf8(output.stdout).expect("text");
        let (body, status) = text.rsplit_once('\n').expect("a status at the end");
        (body.to_owned(), status.to_owned())
    }

    /// Uses the CA certificate as the client certificate, as an openITCOCKPIT server does.
    fn mutual(&self) -> &'static str {
        match self.ca {
            Ca::WithConstraints => "--cert ca.pem --key ca.key --cacert ca.pem",
            Ca::WithoutConstraints => "--cert ca.pem --key ca.key --insecure",
        }
    }

    /// Fetches the request, signs it, and writes the body for the `POST` to `post.json`.
    fn sign(&self, fetch: &str) {
        let (body, status) = self.curl(fetch);
        assert_eq!(status, "200", "{body}");
        let csr: Value = serde_json::from_str(&body).expect("JSON");
        fs::write(self.at().join("host.csr"), csr["csr"].as_str().expect("a request"))
            .expect("host.csr written");
        openssl(self.at(), "req -in host.csr -verify -noout");
        let extensions = match self.signs {
            Signs::WithNames => "-extfile names.cnf",
            Signs::WithoutExtensions => "",
        };
        openssl(
            self.at(),
            &format!(
                "x509 -req -sha512 -in host.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
                 -days 365 -out host.crt {extensions}"
            ),
        );
        let read = |file: &str| fs::read_to_string(self.at().join(file)).expect("a file");
        let post = json!({ "signed": read("host.crt"), "ca": read("ca.pem") }).to_string();
        fs::write(self.at().join("post.json"), post).expect("post.json written");
    }
}

const POST: &str = "--header Content-Type:application/json --data-binary @post.json";

fn enrol_and_renew(ca: Ca, signs: Signs) {
    let node_exporter = Daemon::node_exporter();
    let host = TempDir::with_prefix("scrapegate-host-").expect("a temporary folder");
    let config = format!(
        "[default]\ntry-autossl = True\nautossl-folder = {}\n[proxy]\nlog-format = json\n",
        host.path().display()
    );
    let exporters = format!(
        "[node_exporter]\nenabled = True\nport = {}\npath = /metrics\n",
        node_exporter.address().port()
    );
    let proxy = Proxy::start(&config, &exporters);
    let server = Server::new(ca, signs);
    let port = proxy.address().port();
    let mutual = server.mutual();
    let (plain, tls) = (format!("http://127.0.0.1:{port}"), format!("https://localhost:{port}"));

    let (_, status) = server.curl(&format!("{plain}/prometheus"));
    assert_eq!(status, "403", "nothing but enrollment is served");
    server.sign(&format!("{plain}/autotls?domain=localhost"));
    let (body, status) = server.curl(&format!("{POST} {plain}/autotls"));
    let since = Instant::now();
    assert_eq!(status, "200", "{body}");
    proxy.wait_for_log("TLS", |record| record["fields"]["message"] == "reloaded");
    assert!(since.elapsed().as_millis() < 1000, "{:?}", since.elapsed());

    let metrics = |when: &str| {
        let target = format!("{tls}/prometheus?exporter=node_exporter");
        let (metrics, status) = server.curl(&format!("{mutual} {target}"));
        assert_eq!(status, "200", "{when}: {metrics}");
        assert!(metrics.contains("\nnode_cpu_seconds_total{"), "{when}");
    };
    metrics("once enrolled");
    let first = fs::read(host.path().join("agent.crt")).expect("a certificate");
    for closed in [format!("{plain}/autotls"), format!("--cacert ca.pem {tls}/autotls")] {
        let (body, status) = server.curl(&closed);
        assert_eq!((body.as_str(), status.as_str()), ("", "000"), "{closed}");
    }

    server.sign(&format!("{mutual} {tls}/autotls?domain=localhost"));
    let (body, status) = server.curl(&format!("{mutual} {POST} {tls}/autotls"));
    assert_eq!(status, "200", "{body}");
    let mut left = 2;
    proxy.wait_for_log("the renewal", |record| {
        left -= i32::from(record["fields"]["message"] == "reloaded");
        left == 0
    });
    let second = fs::read(host.path().join("agent.crt")).expect("a certificate");
    assert_ne!(second, first);
    metrics("once renewed");
    openssl(host.path(), "x509 -in agent.crt -noout -checkend 0");
    openssl(host.path(), "pkey -in agent.key -check -noout");
}

#[test]
fn a_ca_with_constraints_signs_a_certificate_with_names() {
    enrol_and_renew(Ca::WithConstraints, Signs::WithNames);
}

#[test]
fn a_ca_with_constraints_signs_a_certificate_without_extensions() {
    enrol_and_renew(Ca::WithConstraints, Signs::WithoutExtensions);
}

#[test]
fn a_ca_without_constraints_signs_a_certificate_without_extensions() {
    enrol_and_renew(Ca::WithoutConstraints, Signs::WithoutExtensions);
}
