//! Client certificates with weak keys or signatures, made and used by OpenSSL, which still supports
//! them.

use std::{
    fs,
    process::{Command, Stdio},
    sync::Arc,
};

use rcgen::KeyPair;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, pem::PemObject},
};
use scrapegate_harness::{
    body::Body,
    client::Client,
    exporter::{Exporter, Framing},
    metrics::{Samples, assert_moves},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

use crate::openssl_pki::openssl;

/// TLS alerts (RFC 8446 §6).
const BAD_CERTIFICATE: u8 = 42;
const DECRYPT_ERROR: u8 = 51;

/// The number of the alert in the output of `openssl s_client`.
fn alert(proxy: &Proxy, pki: &Pki, name: &str, version: &str) -> Option<u8> {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &proxy.address().to_string(), "-ign_eof", version])
        // Without this setting, OpenSSL refuses to use such certificates.
        .args(["-cipher", "ALL:@SECLEVEL=0", "-CAfile"])
        .arg(pki.path("ca.pem"))
        .arg("-cert")
        .arg(pki.path(&format!("{name}.pem")))
        .arg("-key")
        .arg(pki.path(&format!("{name}.key")))
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let (_, number) = said.split_once("SSL alert number ")?;
    number.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()
}

/// A client with the certificate of this name.
fn client(pki: &Pki, name: &str) -> Arc<ClientConfig> {
    let chain = CertificateDer::from_pem_file(pki.path(&format!("{name}.pem"))).expect("one");
    let key = fs::read_to_string(pki.path(&format!("{name}.key"))).expect("a key");
    let key = KeyPair::from_pem(&key).expect("a key");
    pki.client_with(BOTH_VERSIONS, vec![chain], &key)
}

/// T17
#[test]
fn weak_keys_and_weak_signatures_are_refused() {
    let pki = Pki::new();
    let folder = pki.path("");
    let subject = "-subj /CN=weak -nodes";
    openssl(
        &folder,
        &format!(
            "req -x509 -newkey rsa:2048 {subject} -keyout rsa_ca.key -out rsa_ca.pem -days 30 \
             -addext basicConstraints=critical,CA:TRUE"
        ),
    );
    fs::write(pki.path("usage.cnf"), "extendedKeyUsage=clientAuth\n").expect("written");
    let config = pki.config_ini("header-timeout = 1\n").replace(
        &format!("client-ca = {}", pki.path("ca.pem").display()),
        &format!("client-ca = {}", pki.path("rsa_ca.pem").display()),
    );
    let exporter = Exporter::start(|conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::ContentLength, Body::text(100))
    });
    let proxy = Proxy::start(&config, &exporter.section("e"));
    let at_rest = proxy.open_fds();
    let connect_soundly =
        || Client::connect(proxy.address(), client(&pki, "sound")).expect("a handshake");
    let (mut refused, mut scrapes) = (0, 0);
    // Without extensions, the certificate is X.509 version 1.
    let (version_1, version_3) = ("", "-extfile usage.cnf");
    for (name, bits, digest, extensions, is_weak) in [
        ("sound", 2048, "sha256", version_3, false),
        ("rsa_1024", 1024, "sha256", version_3, true),
        ("sha_1", 2048, "sha1", version_3, true),
        ("md_5", 2048, "md5", version_3, true),
        ("old_sound", 2048, "sha256", version_1, false),
        ("old_rsa_1024", 1024, "sha256", version_1, true),
        ("old_sha_1", 2048, "sha1", version_1, true),
        ("old_md_5", 2048, "md5", version_1, true),
    ] {
        let request = format!("req -new -newkey rsa:{bits} {subject} -keyout {name}.key");
        openssl(&folder, &format!("{request} -out {name}.csr"));
        let sign = "x509 -req -CA rsa_ca.pem -CAkey rsa_ca.key -days 30 -set_serial 1";
        openssl(&folder, &format!("{sign} {extensions} -{digest} -in {name}.csr -out {name}.pem"));
        for version in ["-tls1_2", "-tls1_3"] {
            // A client whose handshake succeeds sends no request, so that the exporter's count
            // stays zero.
            let series = if is_weak {
                "scrapegate_tls_handshakes_total{result=\"bad_certificate\"}"
            } else {
                "scrapegate_http_rejected_total{reason=\"header_timeout\"}"
            };
            let read = || Samples::of(&mut connect_soundly());
            let told = assert_moves(series, read, || alert(&proxy, &pki, name, version));
            let is_right = match told {
                None => !is_weak,
                Some(told) => is_weak && [DECRYPT_ERROR, BAD_CERTIFICATE].contains(&told),
            };
            assert!(is_right, "{name} {version}: {told:?}\n{:#?}", proxy.log_lines());
            refused += u64::from(is_weak);
            proxy.assert_logged("TLS handshake failed", refused);
            let response = connect_soundly().get("/prometheus?exporter=e");
            assert_eq!((response.head.status, response.body.bytes), (200, 100), "{response:?}");
            scrapes += 1;
            proxy.assert_at_rest(at_rest);
        }
    }
    assert_eq!(exporter.connections(), scrapes, "no weak client has sent a request");
}
