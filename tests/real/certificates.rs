//! Certificates made with the shortest recipes that people find, used between the proxy, curl,
//! openssl and node_exporter. `weak_clients` tests weak keys and signatures.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use scrapegate_harness::{
    log::LineLog,
    proxy::{Proxy, binary},
};
use tempfile::TempDir;

use crate::{
    daemons::{Daemon, curl},
    openssl_pki::openssl,
};

/// A folder with certificates.
struct Site {
    folder: TempDir,
}

/// The usual `openssl req -x509` recipe.
const SELF_SIGNED: &str = "req -x509 -newkey rsa:2048 -nodes -days 30";

impl Site {
    fn new() -> Self {
        Self { folder: TempDir::with_prefix("scrapegate-certificates-").expect("a folder") }
    }

    /// Runs `openssl` in the folder.
    fn openssl(&self, words: &str) {
        openssl(self.folder.path(), words);
    }

    /// A key and an X.509 version 1 certificate, signed by the CA `ca` or by its own key.
    fn version1(&self, name: &str, subject: &str, ca: Option<&str>) {
        self.openssl(&format!(
            "req -new -newkey rsa:2048 -nodes -subj /CN={subject} -keyout {name}.key -out {name}.csr"
        ));
        let signer = match ca {
            Some(ca) => format!("-CA {ca}.pem -CAkey {ca}.key"),
            None => format!("-signkey {name}.key"),
        };
        self.openssl(&format!(
            "x509 -req -in {name}.csr {signer} -set_serial 7 -days 30 -out {name}.pem"
        ));
        let text = Command::new("openssl")
            .args(["x509", "-noout", "-text", "-in"])
            .arg(self.path(&format!("{name}.pem")))
            .output()
            .expect("openssl runs");
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains("Version: 1 (0x0)"), "{text}");
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A proxy with the server pair and the client CA of these names.
    fn proxy(&self, server: &str, ca: &str, keys: &str, exporters: &str) -> Proxy {
        for entry in fs::read_dir(self.folder.path()).expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "key") {
                fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("a mode");
            }
        }
        let at = self.folder.path().display();
        Proxy::start(
            &format!(
                "[default]\ncertfile = {at}/{server}.pem\nkeyfile = {at}/{server}.key\n\
                 [proxy]\nclient-ca = {at}/{ca}.pem\nlog-format = json\n{keys}"
            ),
            exporters,
        )
    }

    /// Runs curl; returns its output and exit status.
    fn curl(&self, proxy: &Proxy, version: &[&str], client: &str, ca: &str) -> String {
        let port = proxy.address().port();
        let mut words: Vec<String> = version.iter().copied().map(String::from).collect();
        let file = |name: String| self.path(&name).display().to_string();
        words.extend(["--cert".to_owned(), file(format!("{client}.pem"))]);
        words.extend(["--key".to_owned(), file(format!("{client}.key"))]);
        words.extend(["--cacert".to_owned(), file(format!("{ca}.pem"))]);
        words.extend(["--write-out".to_owned(), "%{http_code}".to_owned()]);
        words.push(format!("https://localhost:{port}/prometheus?exporter=node"));
        let output = curl(words);
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }

    /// Runs `scrapegate get node` with these options. Returns whether it succeeded, and its
    /// messages.
    fn get(&self, proxy: &Proxy, words: &str) -> (bool, String) {
        let output = Command::new(binary())
            .args(["get", "node", "--url"])
            .arg(format!("https://localhost:{}", proxy.address().port()))
            .args(words.split_whitespace())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("a running process");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    }
}

const VERSIONS: [&[&str]; 2] = [&["--tlsv1.2", "--tls-max", "1.2"], &["--tlsv1.3"]];

/// node_exporter with this certificate pair of `site`, on a free port.
fn node_exporter(site: &Site, pair: &str) -> (Daemon, u16) {
    let at = site.folder.path().display();
    let web =
        format!("tls_server_config:\n  cert_file: {at}/{pair}.pem\n  key_file: {at}/{pair}.key\n");
    fs::write(site.path("web.yml"), web).expect("written");
    let daemon = Daemon::node_exporter_with(&format!("--web.config.file={at}/web.yml"));
    let port = daemon.address().port();
    (daemon, port)
}

fn https(name: &str, port: u16, keys: &str) -> String {
    format!(
        "[{name}]\nenabled = True\nmethod = https\nhost = 127.0.0.1\nport = {port}\n\
         path = /metrics\n{keys}\n"
    )
}

#[test]
fn f08_node_exporter_with_its_self_signed_certificate_in_ca_file_is_scraped() {
    let site = Site::new();
    site.openssl(&format!(
        "{SELF_SIGNED} -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout own.key \
         -out own.pem"
    ));
    let (_daemon, port) = node_exporter(&site, "own");
    let ca = format!("ca-file = {}\n", site.path("own.pem").display());
    let exporters = https("node", port, &format!("{ca}server-name = localhost\n"))
        + &https("wrong-name", port, &format!("{ca}server-name = elsewhere\n"));
    let proxy = site.proxy("own", "own", "", &exporters);
    for version in VERSIONS {
        // The proxy, the clients and the exporter all use the same certificate.
        let answer = site.curl(&proxy, version, "own", "own");
        assert!(answer.ends_with("200"), "{answer}");
        assert!(answer.contains("\nnode_exporter_build_info{"), "{answer}");
    }
    let (is_whole, said) = site.get(&proxy, "--cert own.pem --key own.key --cacert own.pem");
    assert!(is_whole, "{said}");
    let port = proxy.address().port();
    let other = curl([
        "--cert",
        &site.path("own.pem").display().to_string(),
        "--key",
        &site.path("own.key").display().to_string(),
        "--insecure",
        &format!("https://localhost:{port}/prometheus?exporter=wrong-name"),
    ]);
    let text = String::from_utf8_lossy(&other.stdout);
    assert!(text.contains("exporter failed the TLS handshake"), "{text}");
    let cause = proxy.wait_for_scrape("wrong-name")["cause"].to_string();
    assert!(cause.contains("not valid for elsewhere: it is for localhost"), "{cause}");
}

#[test]
fn f09_version_1_works_as_ca_server_exporter_and_client() {
    let site = Site::new();
    site.version1("ca", "old-CA", None);
    site.version1("server", "localhost", Some("ca"));
    site.version1("client", "scraper", Some("ca"));
    site.version1("exporter", "localhost", None);
    site.openssl(&format!("{SELF_SIGNED} -subj /CN=other -keyout other.key -out other.pem"));
    site.version1("stranger", "scraper", Some("other"));
    let (_daemon, port) = node_exporter(&site, "exporter");
    let own = format!("ca-file = {}\n", site.path("exporter.pem").display());
    let exporters = https("node", port, &format!("{own}server-name = localhost\n"))
        + &https("skipped", port, "insecure-skip-verify = True\n");
    let proxy = site.proxy("server", "ca", "", &exporters);
    for version in VERSIONS {
        for client in ["ca", "client"] {
            let answer = site.curl(&proxy, version, client, "ca");
            assert!(answer.ends_with("200"), "{client}: {answer}");
            assert!(answer.contains("\nnode_exporter_build_info{"), "{client}: {answer}");
        }
        let answer = site.curl(&proxy, version, "stranger", "ca");
        assert!(answer.contains("unknown ca"), "{answer}");
    }
    // `get` is a separate TLS client: it is run with the right CA, with no CA check, and with the
    // wrong CA.
    let shown = "--cert client.pem --key client.key";
    let wrong = format!("{shown} --cacert other.pem");
    for (words, expected) in [
        (format!("{shown} --cacert ca.pem"), None),
        (format!("{shown} --cacert server.pem"), None),
        (format!("{shown} --insecure"), None),
        (wrong, Some("the certificate is not signed by a trusted CA")),
    ] {
        let (is_whole, said) = site.get(&proxy, &words);
        assert_eq!(is_whole, expected.is_none(), "{words}: {said}");
        assert!(said.contains(expected.unwrap_or("complete: ")), "{words}: {said}");
    }
    drop(proxy);
    for (pattern, status) in [("CN=scraper", "200"), ("CN=nobody", "403")] {
        let proxy = site.proxy("server", "ca", &format!("client-allow = {pattern}\n"), &exporters);
        for version in VERSIONS {
            let answer = site.curl(&proxy, version, "client", "ca");
            assert!(answer.ends_with(status), "{pattern}: {answer}");
        }
    }
}

#[test]
fn f09_version_1_is_refused_where_openssl_refuses_it() {
    let site = Site::new();
    site.openssl(&format!("{SELF_SIGNED} -subj /CN=ca -keyout ca.key -out ca.pem"));
    site.version1("server", "localhost", Some("ca"));
    site.version1("client", "scraper", Some("ca"));
    site.version1("revoked", "revoked", Some("ca"));
    let sign = "x509 -req -in client.csr -CA ca.pem -CAkey ca.key -set_serial 8";
    site.openssl(&format!("{sign} -days -1 -out expired.pem"));
    fs::copy(site.path("client.key"), site.path("expired.key")).expect("copied");
    // A CRL made by `openssl ca`, which lists the serial number of one certificate.
    fs::write(
        site.path("ca.cnf"),
        "[ca]\ndefault_ca = a\n[a]\ndatabase = index.txt\ndefault_md = sha256\n\
         default_crl_days = 30\ncrlnumber = crlnumber\n",
    )
    .expect("written");
    fs::write(site.path("crlnumber"), "01\n").expect("written");
    fs::write(site.path("index.txt"), "").expect("written");
    let list = "ca -config ca.cnf -cert ca.pem -keyfile ca.key";
    site.openssl(&format!("{list} -gencrl -out empty.crl"));
    site.openssl(&format!("{list} -revoke revoked.pem"));
    site.openssl(&format!("{list} -gencrl -out full.crl"));
    let node = Daemon::node_exporter();
    let exporters =
        format!("[node]\nenabled = True\nport = {}\npath = /metrics\n", node.address().port());
    let lists = |name: &str| format!("client-crl = {}\n", site.path(name).display());
    for (keys, client, refused) in [
        (String::new(), "client", None),
        (String::new(), "expired", Some("the certificate expired on ")),
        (lists("empty.crl"), "revoked", None),
        (lists("full.crl"), "revoked", Some("is revoked")),
    ] {
        let proxy = site.proxy("server", "ca", &keys, &exporters);
        let mut refusals = 0;
        for version in VERSIONS {
            let answer = site.curl(&proxy, version, client, "ca");
            let Some(why) = refused else {
                assert!(answer.ends_with("200"), "{client}: {answer}");
                continue;
            };
            assert!(answer.starts_with("000curl: "), "{client}: {answer}");
            refusals += 1;
            let mut left = refusals;
            proxy.wait_for_log(why, |record| {
                let reason = record["fields"]["reason"].as_str().unwrap_or_default();
                left -= u32::from(reason.contains(why));
                left == 0
            });
        }
    }
}

#[test]
fn f09_openssl_serves_version_1_to_the_proxy_in_both_versions() {
    let site = Site::new();
    site.version1("exporter", "localhost", None);
    site.openssl(&format!("{SELF_SIGNED} -subj /CN=ca -keyout ca.key -out ca.pem"));
    let ca = format!("ca-file = {}\n", site.path("exporter.pem").display());
    for version in ["-tls1_2", "-tls1_3"] {
        let mut server = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", version])
            .args(["-cert", "exporter.pem", "-key", "exporter.key"])
            .current_dir(site.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        let log = LineLog::follow("s_server", server.stdout.take().expect("piped"));
        let port = log.wait_for("its address", |line| {
            line.strip_prefix("ACCEPT 127.0.0.1:")?.parse::<u16>().ok()
        });
        let exporters = https("node", port, &format!("{ca}server-name = localhost\n"));
        let proxy = site.proxy("ca", "ca", "", &exporters);
        let url = format!("https://localhost:{}/prometheus?exporter=node", proxy.address().port());
        let file = |name| site.path(name).display().to_string();
        let words = ["--insecure", "--cert", &file("ca.pem"), "--key", &file("ca.key"), &url];
        let answer = curl(words);
        // `openssl s_server` sends a close-delimited page. Whatever the result of the scrape is,
        // the first byte of a response shows that the handshake succeeded.
        let record = proxy.wait_for_scrape("node");
        assert!(record["first_byte_seconds"].is_number(), "{record} {answer:?}");
        let _ = server.kill();
        let _ = server.wait();
    }
}
