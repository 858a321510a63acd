//! The wall clock jumps, by means of libfaketime. Deadlines do not follow it; certificate validity
//! does.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use scrapegate_harness::{
    client::{Client, Cut},
    exporter::Exporter,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};
use tempfile::TempDir;
use time::OffsetDateTime;

const TIMEOUT: Duration = Duration::from_secs(1);
const HOUR: i64 = 3600;

/// A proxy whose wall clock is ahead of the real time by the offset in a file, and an exporter that
/// answers at once, or never if the request contains `late`.
struct Setup {
    proxy: Proxy,
    offset: PathBuf,
    _folder: TempDir,
    _exporter: Exporter,
}

impl Setup {
    fn new(pki: &Pki, offset: i64) -> Self {
        let folder = TempDir::with_prefix("scrapegate-clock-").expect("a temporary folder");
        let file = folder.path().join("offset");
        set(&file, offset);
        let exporter = Exporter::start(|conversation| {
            if conversation.read_request()?.contains("late") {
                conversation.wait_until_closed();
                return Ok(());
            }
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
        });
        let wrapper = [
            "sh",
            "-c",
            "LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketime.so.1) \
             FAKETIME_TIMESTAMP_FILE=$0 FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
             \"$@\"; exit $?",
            file.to_str().expect("UTF-8"),
        ];
        let section = format!("{}timeout = {}\n", exporter.section("e"), TIMEOUT.as_secs());
        let proxy = Proxy::start_beneath(&wrapper.map(Into::into), &pki.config_ini(""), &section);
        Self { proxy, offset: file, _folder: folder, _exporter: exporter }
    }

    fn connect(&self, pki: &Pki) -> std::io::Result<Client> {
        Client::connect(self.proxy.address(), pki.client(BOTH_VERSIONS))
    }

    #[track_caller]
    fn assert_lives(&self) {
        let lines = self.proxy.log_lines();
        assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:#?}");
    }
}

/// Replaces the file atomically, because a partial number must not be read.
fn set(file: &Path, offset: i64) {
    let next = file.with_extension("next");
    fs::write(&next, format!("{offset:+}\n")).expect("written");
    fs::rename(next, file).expect("renamed");
}

/// The offset of a clock that shows this many seconds since 1970.
fn ahead(shown: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    shown - i64::try_from(now.as_secs()).expect("seconds that fit")
}

/// January 31, 1970, and the middle of 2040.
const IN_1970: i64 = 30 * 24 * HOUR;
const IN_2040: i64 = 2_223_000_000;

/// P11
#[test]
fn deadlines_ignore_jumps_of_the_wall_clock() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, 0);
    let mut client = setup.connect(&pki).expect("a handshake");
    for offset in [HOUR, -HOUR, ahead(IN_1970), ahead(IN_2040), 0] {
        let begun = Instant::now();
        client.send_get("/prometheus?exporter=e&late").expect("sent");
        set(&setup.offset, offset);
        assert_eq!(client.read_response().expect("an answer").head.status, 504, "{offset}");
        let took = begun.elapsed();
        assert!(took >= TIMEOUT && took < TIMEOUT * 2, "{offset}: {took:?}");
        let response = client.get("/prometheus?exporter=e");
        assert_eq!(response.head.status, 200, "{offset}: {response:?}");
    }
    setup.assert_lives();
}

/// P11
#[test]
fn certificates_are_checked_against_the_hosts_wall_clock() {
    let pki = Pki::new();
    for (offset, is_valid) in
        [(HOUR, true), (-HOUR, true), (ahead(IN_2040), true), (ahead(IN_1970), false)]
    {
        // In 1970 the server certificate is not valid yet, so the proxy would not start with this
        // clock.
        let setup = Setup::new(&pki, if is_valid { offset } else { 0 });
        set(&setup.offset, offset);
        let mut client = setup.connect(&pki);
        let answered = client.as_mut().is_ok_and(|client| {
            client.send_get("/prometheus").and_then(|()| client.read_head()).is_ok()
        });
        assert_eq!(answered, is_valid, "{offset}");
        setup.assert_lives();
    }
}

/// P11, T37
#[test]
fn a_clock_jump_past_a_certificates_expiry_closes_its_connection() {
    let pki = Pki::new();
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([]).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, "expires soon");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_after = OffsetDateTime::now_utc() + time::Duration::minutes(30);
    let shown = params.signed_by(&key, pki.ca()).expect("a certificate");
    let setup = Setup::new(&pki, 0);
    for &version in BOTH_VERSIONS {
        set(&setup.offset, 0);
        let config = pki.client_with(&[version], vec![shown.der().clone()], &key);
        let mut client = Client::connect(setup.proxy.address(), config).expect("a handshake");
        assert_eq!(client.get("/prometheus?exporter=e").head.status, 200);
        let mut kept = setup.connect(&pki).expect("a handshake");
        assert_eq!(kept.get("/prometheus?exporter=e").head.status, 200);
        set(&setup.offset, HOUR);
        let begun = Instant::now();
        assert_eq!(client.read_to_end(), (Vec::new(), Cut::CloseNotify));
        // The proxy checks once a second.
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(kept.get("/prometheus?exporter=e").head.status, 200);
    }
    setup.assert_lives();
}
