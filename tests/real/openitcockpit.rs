//! The requests of an openITCOCKPIT server, made by curl and openssl. The server's CA certificate
//! is its client certificate, too.

use std::{
    ffi::OsString,
    io::Write,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use scrapegate_harness::proxy::Proxy;

use crate::{
    daemons::{Daemon, curl},
    openssl_pki::{AgentCertificate, OpensslPki},
};

/// The only TLS version that a peer may use.
#[derive(Clone, Copy, Debug)]
enum Version {
    Tls12,
    Tls13,
}

const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

impl Version {
    fn for_curl(self) -> &'static [&'static str] {
        match self {
            Self::Tls12 => &["--tlsv1.2", "--tls-max", "1.2"],
            Self::Tls13 => &["--tlsv1.3"],
        }
    }

    fn for_openssl(self) -> &'static str {
        match self {
            Self::Tls12 => "-tls1_2",
            Self::Tls13 => "-tls1_3",
        }
    }

    /// The name of the version in the output of `openssl s_client`.
    fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// Whether a request uses the CA certificate as its client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    TheCa,
    Nothing,
}

/// node_exporter and mysqld_exporter behind a proxy with OpenSSL's certificates.
struct Host {
    _node_exporter: Daemon,
    _mysqld_exporter: Daemon,
    proxy: Proxy,
    pki: Arc<OpensslPki>,
}

impl Host {
    fn start(certificate: AgentCertificate) -> Self {
        let node_exporter = Daemon::node_exporter();
        let mysqld_exporter = Daemon::mysqld_exporter();
        let section = |name: &str, enabled: &str, port: u16| {
            format!(
                "[{name}]\nenabled = {enabled}\nmethod = http\nport = {port}\npath = /metrics\n\
                 interval = 15\ntimeout = 5\n\n"
            )
        };
        // The sections are not in alphabetical order, and a disabled exporter is between them.
        let exporters = [
            section("node_exporter", "True", node_exporter.address().port()),
            section("disabled_exporter", "False", 9),
            section("mysqld_exporter", "True", mysqld_exporter.address().port()),
        ];
        let pki = OpensslPki::shared();
        Self {
            proxy: Proxy::start(&pki.config_ini(certificate), &exporters.concat()),
            _node_exporter: node_exporter,
            _mysqld_exporter: mysqld_exporter,
            pki,
        }
    }

    /// `curl --cert ca --key ca.key --cacert ca URL`; prints the status after the body.
    fn curl(&self, version: Version, shows: Shows, target: &str) -> Output {
        let mut args: Vec<OsString> = version.for_curl().iter().map(OsString::from).collect();
        args.extend(["--cacert".into(), self.pki.ca().into()]);
        if shows == Shows::TheCa {
            args.extend(["--cert".into(), self.pki.ca().into()]);
            args.extend(["--key".into(), self.pki.ca_key().into()]);
        }
        args.extend(["--write-out".into(), "\n%{http_code}".into()]);
        let port = self.proxy.address().port();
        args.push(format!("https://localhost:{port}{target}").into());
        curl(args)
    }

    /// The body and the status of a request that must succeed.
    fn answer(&self, version: Version, target: &str) -> (String, String) {
        let output = self.curl(version, Shows::TheCa, target);
        assert!(output.status.success(), "{version:?} {target}: {output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        let (body, status) = text.rsplit_once('\n').expect("a status at the end");
        (body.to_owned(), status.to_owned())
    }

    /// Requests the list with `openssl s_client`.
    fn s_client(&self, version: Version, shows: Shows) -> Output {
        let address = self.proxy.address();
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-connect", &address.to_string(), "-ign_eof"])
            .args(["-servername", "localhost", "-verify_return_error", "-CAfile"])
            .arg(self.pki.ca())
            .arg(version.for_openssl());
        if shows == Shows::TheCa {
            command.arg("-cert").arg(self.pki.ca());
            command.arg("-key").arg(self.pki.ca_key());
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl runs");
        let request =
            format!("GET /prometheus HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        // Fails if the handshake has failed already. The output shows that.
        let _ = child.stdin.take().expect("piped").write_all(request.as_bytes());
        child.wait_with_output().expect("openssl ends")
    }
}

const LIST: &str = r#"["node_exporter","mysqld_exporter"]"#;

#[test]
fn the_three_curl_calls_work_with_the_ca_as_its_own_client_certificate() {
    let host = Host::start(AgentCertificate::WithNames);
    for version in VERSIONS {
        let (list, status) = host.answer(version, "/prometheus");
        assert_eq!(status, "200", "{version:?}");
        let names: Vec<String> = serde_json::from_str(&list).expect("a JSON array");
        assert_eq!(names, ["node_exporter", "mysqld_exporter"], "{version:?}");

        let (metrics, status) = host.answer(version, "/prometheus?exporter=node_exporter");
        assert_eq!(status, "200", "{version:?}");
        assert!(metrics.contains("\nnode_cpu_seconds_total{"), "{version:?}");
        let (metrics, status) = host.answer(version, "/prometheus?exporter=mysqld_exporter");
        assert_eq!(status, "200", "{version:?}");
        assert!(metrics.contains("\nmysql_up 0"), "{version:?}");

        for absent in ["no_such_exporter", "disabled_exporter"] {
            let (body, status) = host.answer(version, &format!("/prometheus?exporter={absent}"));
            assert_eq!(status, "404", "{version:?} {absent}");
            assert_eq!(body, "Unknown exporter", "{version:?} {absent}");
        }
    }
}

#[test]
fn an_agent_certificate_without_extensions_works_as_server_certificate() {
    let host = Host::start(AgentCertificate::WithoutExtensions);
    for version in VERSIONS {
        let (list, status) = host.answer(version, "/prometheus");
        assert_eq!((list.as_str(), status.as_str()), (LIST, "200"), "{version:?}");
    }
}

#[test]
fn curl_without_a_client_certificate_gets_no_response() {
    let host = Host::start(AgentCertificate::WithNames);
    for version in VERSIONS {
        for target in ["/prometheus", "/prometheus?exporter=node_exporter", "/"] {
            let output = host.curl(version, Shows::Nothing, target);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(!output.status.success(), "{version:?} {target}: {output:?}");
            assert_eq!(text, "\n000", "{version:?} {target}: no byte of HTTP");
        }
        let (list, _) = host.answer(version, "/prometheus");
        assert_eq!(list, LIST, "the next one with a certificate is served");
    }
}

#[test]
fn openssl_gets_a_response_with_both_versions() {
    let host = Host::start(AgentCertificate::WithNames);
    for version in VERSIONS {
        let output = host.s_client(version, Shows::TheCa);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("New, {}, Cipher is ", version.name())), "{text}");
        assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
        assert!(text.contains("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains(LIST), "{text}");
    }
}

#[test]
fn openssl_without_a_client_certificate_gets_the_alert_certificate_required() {
    let host = Host::start(AgentCertificate::WithNames);
    for version in VERSIONS {
        let output = host.s_client(version, Shows::Nothing);
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains("HTTP/1.1"), "{version:?}: {text}");
        assert!(
            errors.contains("SSL alert number 116"),
            "certificate_required (116) with {version:?}: {errors}\n{text}"
        );
    }
}
