//! The findings of `check` about files made by OpenSSL that cannot work with TLS (F10, F11).

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use scrapegate_harness::proxy::binary;
use tempfile::TempDir;

use crate::openssl_pki::openssl;

/// A valid CA, server pair and CRLs. Each case replaces one file.
struct Site {
    folder: TempDir,
}

const CONFIG: &str = "\
[default]
certfile = server.pem
keyfile = server.key
[proxy]
client-ca = ca.pem
";

const CA: &str = "req -x509 -nodes -subj /CN=ca -days 30";
const P256: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";

impl Site {
    fn new() -> Self {
        let folder = TempDir::with_prefix("scrapegate-files-").expect("a temporary folder");
        let site = Self { folder };
        site.write("config.ini", CONFIG);
        site.write("prometheus_exporters.ini", "[e]\nenabled = yes\nport = 1\npath = /m\n");
        site.openssl(&format!("{CA} {P256} -keyout ca.key -out ca.pem"));
        site.server("", "subjectAltName=DNS:localhost");
        site
    }

    /// Creates a new server pair.
    fn server(&self, with: &str, extensions: &str) {
        self.openssl(&format!(
            "req -new -nodes -subj /CN=localhost {P256} -keyout server.key -out csr"
        ));
        self.write("extensions", extensions);
        self.openssl(&format!(
            "x509 -req -in csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 30 -extfile extensions \
             {with} -out server.pem"
        ));
        self.close("server.key");
    }

    fn openssl(&self, words: &str) {
        openssl(self.folder.path(), words);
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("readable")
    }

    fn close(&self, name: &str) {
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o600)).expect("a new mode");
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The findings. None may contain the wording of a library.
    #[track_caller]
    fn check(&self) -> (bool, Vec<String>) {
        let output = Command::new(binary())
            .args(["check", "--config"])
            .arg(self.path("config.ini"))
            .output()
            .expect("a running process");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        for foreign in ["OtherError", "Other(", "2.5.29", "1.2.840", "InvalidCertificate", "Der"] {
            assert!(!said.contains(foreign), "{foreign}: {said}");
        }
        let is_finding = |line: &&str| line.contains(": error: ") || line.contains(": warning: ");
        let findings = said.lines().filter(is_finding).map(str::to_owned).collect();
        (output.status.success(), findings)
    }

    /// Asserts exactly one finding with these words. It is an error if the first of them says so.
    #[track_caller]
    fn assert_found(&self, words: &[&str]) {
        let (is_good, findings) = self.check();
        let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
        assert_eq!(findings.iter().filter(has_all).count(), 1, "{words:?}: {findings:#?}");
        assert_eq!(findings.len(), 1, "{words:?}: {findings:#?}");
        assert_eq!(is_good, words[0] == "warning", "{findings:#?}");
    }
}

#[test]
fn f11_valid_files_have_no_finding() {
    let site = Site::new();
    assert_eq!(site.check(), (true, Vec::new()));
    // The usual recipe: self-signed, and its own CA.
    site.openssl(&format!(
        "req -x509 -nodes {P256} -subj /CN=localhost -addext subjectAltName=DNS:localhost -days 30 \
         -keyout server.key -out server.pem"
    ));
    assert_eq!(site.check(), (true, Vec::new()));
    // An X.509 version 1 CA.
    site.openssl(&format!("req -new -nodes -subj /CN=old {P256} -keyout ca.key -out csr"));
    site.openssl("x509 -req -in csr -signkey ca.key -days 30 -out ca.pem");
    let (is_good, findings) = site.check();
    assert!(is_good && findings.is_empty(), "{findings:#?}");
}

#[test]
fn f11_an_unusable_client_ca_is_reported_with_the_remedy() {
    let rsa = |bits: &str| format!("-newkey rsa:{bits}");
    for (extra, words) in [
        (rsa("1024"), "has an RSA key of 1024 bits, which is too short"),
        (
            "-newkey rsa-pss -pkeyopt rsa_keygen_bits:2048".to_owned(),
            "has an RSA-PSS key (id-RSASSA-PSS), which is not supported",
        ),
        (
            "-newkey ec -pkeyopt ec_paramgen_curve:secp256k1".to_owned(),
            "has an EC key on curve secp256k1, which is not supported: use P-256",
        ),
        (
            "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit".to_owned(),
            "has an EC key with explicit curve parameters, which are not supported",
        ),
    ] {
        let site = Site::new();
        site.openssl(&format!("{CA} {extra} -keyout ca.key -out ca.pem"));
        site.assert_found(&["error", "client-ca", "block 1 (CERTIFICATE, line 1)", words]);
    }
    let site = Site::new();
    site.write(
        "names.cnf",
        "[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\nbasicConstraints=critical,CA:TRUE\n\
         nameConstraints=critical,permitted;dirName:permitted\n[permitted]\nO=Example\n",
    );
    site.openssl(&format!("{CA} {P256} -config names.cnf -keyout ca.key -out ca.pem"));
    site.assert_found(&["error", "client-ca", "block 1 (", "(dirName), which are not supported"]);
    let site = Site::new();
    let policies = "-addext certificatePolicies=critical,1.2.3.4";
    site.openssl(&format!("{CA} {P256} {policies} -keyout ca.key -out ca.pem"));
    let words =
        "has the critical extension certificatePolicies: certificates that it signed work, but";
    site.assert_found(&["warning", "client-ca", "block 1 (", words]);
}

#[test]
fn f11_a_leaf_certificate_as_client_ca_is_a_warning_that_names_its_issuer() {
    let site = Site::new();
    site.write("ca.pem", &site.read("server.pem"));
    site.assert_found(&["warning", "client-ca", "block 1 (", "is not a CA certificate (it has no"]);
    let site = Site::new();
    site.server("", "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE");
    site.write("ca.pem", &site.read("server.pem"));
    site.assert_found(&["warning", "client-ca", "is not a CA certificate", "If `CN=ca` signed"]);
}

#[test]
fn f11_an_unusable_key_is_reported_with_the_remedy() {
    for (key, words) in [
        ("genrsa -out server.key 1024", "an RSA key of 1024 bits, which is too short"),
        ("genrsa -traditional -out server.key 1024", "an RSA key of 1024 bits, which is too short"),
        (
            "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out server.key",
            "an RSA-PSS key",
        ),
        ("ecparam -name secp256k1 -genkey -out server.key", "an EC key on curve secp256k1"),
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out server.key",
            "an EC key on curve secp256k1",
        ),
        (
            "ecparam -name prime256v1 -param_enc explicit -genkey -out server.key",
            "an EC key with explicit curve parameters",
        ),
        ("genpkey -algorithm ED448 -out server.key", "an Ed448 key, which is not supported"),
        (
            "genpkey -algorithm RSA -aes256 -pass pass:x -out server.key",
            "is an encrypted private key, which cannot be used: decrypt it with `openssl pkey",
        ),
        (
            "genrsa -traditional -aes256 -passout pass:x -out server.key 2048",
            "is an encrypted private key, which cannot be used: decrypt it with `openssl pkey",
        ),
    ] {
        let site = Site::new();
        site.openssl(key);
        site.close("server.key");
        site.assert_found(&["error", "keyfile", "server.key", words]);
    }
    let site = Site::new();
    let key = site.read("server.key");
    site.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.key");
    site.write("server.key", &format!("{}{key}", site.read("other.key")));
    site.assert_found(&[
        "error",
        "keyfile",
        "block 1 (PRIVATE KEY, line 1) and block 2 (PRIVATE KEY,",
    ]);
    // The output of `openssl ecparam -genkey`: the parameters before the key.
    site.openssl("ecparam -name prime256v1 -genkey -out server.key");
    assert!(site.read("server.key").contains("EC PARAMETERS"));
    site.openssl(&format!("{CA} -key server.key -addext subjectAltName=DNS:h -out server.pem"));
    assert_eq!(site.check(), (true, Vec::new()));
}

#[test]
fn f11_a_server_certificate_that_scrapers_refuse_is_a_warning_with_the_remedy() {
    let site = Site::new();
    let names = "subjectAltName=DNS:localhost";
    site.server("", &format!("{names}\nextendedKeyUsage=clientAuth"));
    site.assert_found(&["warning", "certfile", "has no serverAuth in its extended key usage"]);
    site.server("", "extendedKeyUsage=serverAuth");
    site.assert_found(&["warning", "certfile", "subjectAltName, so Prometheus refuses it"]);
    site.server("-sha1", names);
    site.assert_found(&["warning", "certfile", "is signed with SHA-1 or MD5"]);
    site.server("", names);
    let (server, ca) = (site.read("server.pem"), site.read("ca.pem"));
    site.write("server.pem", &format!("{ca}{server}"));
    site.assert_found(&["error", "certfile", "block 2 (CERTIFICATE, line ", "put it first"]);
    site.openssl(&format!("{CA} {P256} -subj /CN=another -keyout other.key -out other.pem"));
    site.write("server.pem", &format!("{server}{}", site.read("other.pem")));
    site.assert_found(&[
        "warning",
        "certfile",
        "is not the issuer of block 1 (CERTIFICATE, line 1)",
    ]);
}

#[test]
fn f11_the_files_of_an_https_exporter_are_checked_in_the_same_way() {
    let site = Site::new();
    let exporter = "[e]\nenabled = yes\nmethod = https\nport = 1\npath = /m\nca-file = exporter.pem\n\
                    cert-file = client.pem\nkey-file = server.key\n";
    site.write("prometheus_exporters.ini", exporter);
    site.write("exporter.pem", &site.read("ca.pem"));
    site.server("", "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth");
    site.write("client.pem", &site.read("server.pem"));
    site.assert_found(&["warning", "cert-file", "has no clientAuth", "the server refuses it"]);
    site.server("", "subjectAltName=DNS:localhost");
    site.write("client.pem", &site.read("server.pem"));
    site.openssl(&format!("{CA} -newkey rsa:1024 -keyout other.key -out exporter.pem"));
    site.assert_found(&["error", "ca-file", "has an RSA key of 1024 bits, which is too short"]);
    // One certificate of several does not invalidate the others.
    site.write("exporter.pem", &format!("{}{}", site.read("exporter.pem"), site.read("ca.pem")));
    site.assert_found(&["warning", "ca-file", "has an RSA key of 1024 bits, which is too short"]);
}

/// Makes a CRL of the CA with `openssl ca`.
fn list(site: &Site, name: &str, version2: bool) {
    let keys = if version2 { "crlnumber=number\n" } else { "" };
    site.write(
        "ca.cnf",
        &format!("[ca]\ndefault_ca=it\n[it]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=9\n{keys}"),
    );
    site.write("index", "");
    site.write("number", "01");
    site.openssl(&format!("ca -gencrl -config ca.cnf -keyfile ca.key -cert ca.pem -out {name}"));
}

#[test]
fn f11_an_unusable_crl_is_reported_with_the_remedy() {
    let site = Site::new();
    site.write("config.ini", &format!("{CONFIG}client-crl = lists.pem\n"));
    let usage = "-addext keyUsage=critical,keyCertSign,cRLSign";
    site.openssl(&format!("{CA} {P256} {usage} -keyout ca.key -out ca.pem"));
    list(&site, "lists.pem", true);
    assert_eq!(site.check(), (true, Vec::new()));
    list(&site, "lists.pem", false);
    site.assert_found(&["error", "client-crl", "block 1 (X509 CRL, line 1) is a CRL of version 1"]);
    list(&site, "lists.pem", true);
    site.openssl(&format!("{CA} {P256} {usage} -keyout ca.key -out ca.pem"));
    site.assert_found(&["warning", "client-crl", "is not signed by the CA that it names"]);
    site.openssl(&format!("{CA} {P256} -subj /CN=another -keyout ca.key -out ca.pem"));
    let (is_good, findings) = site.check();
    assert!(is_good && findings.len() == 2, "{findings:#?}");
    assert!(
        findings[0].contains("has no CRL in the file that `client-crl` names"),
        "{findings:#?}"
    );
    assert!(findings[1].contains("of `CN=ca`, which is not one of the CAs"), "{findings:#?}");
    let usage = "-addext keyUsage=critical,keyCertSign";
    site.openssl(&format!("{CA} {P256} {usage} -keyout ca.key -out ca.pem"));
    list(&site, "lists.pem", true);
    site.assert_found(&[
        "warning",
        "client-ca",
        "has no cRLSign in its key usage: OpenSSL rejects",
    ]);
}

#[test]
fn f10_a_trusted_certificate_is_used_if_openssl_would_trust_it_and_otherwise_an_error() {
    let site = Site::new();
    for marks in ["-trustout", "-addtrust clientAuth", "-setalias scrapers -trustout"] {
        let plain = site.read("ca.pem");
        site.openssl(&format!("x509 -in ca.pem {marks} -out trusted.pem"));
        let trusted = site.read("trusted.pem");
        assert!(trusted.contains("TRUSTED CERTIFICATE"), "{marks}: {trusted}");
        site.write("ca.pem", &trusted);
        assert_eq!(site.check(), (true, Vec::new()), "{marks}");
        site.write("ca.pem", &plain);
    }
    for marks in ["-addreject clientAuth", "-addtrust emailProtection"] {
        let plain = site.read("ca.pem");
        site.openssl(&format!("x509 -in ca.pem {marks} -out trusted.pem"));
        site.write("ca.pem", &site.read("trusted.pem"));
        site.assert_found(&[
            "error",
            "block 1 (TRUSTED CERTIFICATE, line 1)",
            "not trusted for this purpose",
        ]);
        site.write("ca.pem", &plain);
    }
}
