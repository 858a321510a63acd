//! Client certificates that are too weak, made and shown by OpenSSL, which still signs with them.

use std::process::{Command, Stdio};

use crate::{
    openssl_pki::openssl,
    support::{pki::Pki, proxy::Proxy},
};

/// TLS alerts (RFC 8446 §6).
const BAD_CERTIFICATE: u8 = 42;
const DECRYPT_ERROR: u8 = 51;

/// The alert's number in what `openssl s_client` says.
fn alert(proxy: &Proxy, pki: &Pki, name: &str, version: &str) -> Option<u8> {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &proxy.address().to_string(), "-ign_eof", version])
        // Without it OpenSSL refuses to show such certificates.
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
    // Without an extension it would be of X.509 version 1, which is refused for that alone.
    std::fs::write(pki.path("usage.cnf"), "extendedKeyUsage=clientAuth\n").expect("written");
    let config = pki.config_ini("header-timeout = 0.5\n").replace(
        &format!("client-ca = {}", pki.path("ca.pem").display()),
        &format!("client-ca = {}", pki.path("rsa_ca.pem").display()),
    );
    let proxy = Proxy::start(&config, "");
    let at_rest = proxy.open_fds();
    for (name, bits, digest, alerts) in [
        ("sound", 2048, "sha256", None),
        ("rsa_1024", 1024, "sha256", Some([DECRYPT_ERROR, BAD_CERTIFICATE])),
        ("sha_1", 2048, "sha1", Some([DECRYPT_ERROR, BAD_CERTIFICATE])),
        ("md_5", 2048, "md5", Some([DECRYPT_ERROR, BAD_CERTIFICATE])),
    ] {
        let request = format!("req -new -newkey rsa:{bits} {subject} -keyout {name}.key");
        openssl(&folder, &format!("{request} -out {name}.csr"));
        let sign =
            "x509 -req -CA rsa_ca.pem -CAkey rsa_ca.key -days 30 -set_serial 1 -extfile usage.cnf";
        openssl(&folder, &format!("{sign} -{digest} -in {name}.csr -out {name}.pem"));
        for version in ["-tls1_2", "-tls1_3"] {
            let told = alert(&proxy, &pki, name, version);
            let is_right = match alerts {
                None => told.is_none(),
                Some(alerts) => told.is_some_and(|told| alerts.contains(&told)),
            };
            assert!(is_right, "{name} {version}: {told:?}\n{:#?}", proxy.log_lines());
            proxy.assert_at_rest(at_rest);
        }
    }
}
