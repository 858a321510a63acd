//! The proxy, its files, and its exporters, including the faulty ones.

use std::{
    fs, io,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustls::AlertDescription;
use scrapegate_harness::{
    body::Body,
    client::{Client, alert_in},
    exporter::{Conversation, Exporter, Framing},
    forge,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// The time within which everything must be as before.
pub(crate) const REST: Duration = Duration::from_secs(5);

/// Approximate size of the exporter's send buffer for the endless body, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// Number of scrapes before the measurement.
pub(crate) const SETTLING: usize = 100;

/// The serial number of the client certificate that is revoked at times.
const REVOCABLE: u64 = 77;

const REVOKED: &str = "revoked.crl";

/// The resources that the proxy uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holdings {
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    pub(crate) rss_kib: u64,
}

/// Everything that the soak needs.
pub(crate) struct Site {
    pub(crate) pki: Pki,
    pub(crate) proxy: Proxy,
    /// The client certificate that is revoked at times, and how often it was refused.
    revocable: forge::Credentials,
    refusals: AtomicUsize,
    /// The sections of the exporters that never change.
    sections: String,
    _exporters: [Exporter; 5],
}

impl Site {
    pub(crate) fn start() -> Self {
        let pki = Pki::new();
        let chunked = Exporter::start(|it| answer(it, Framing::Chunked(4096)));
        let plain = Exporter::start_on_unix_socket(|it| answer(it, Framing::ContentLength));
        let encrypted = Exporter::start_tls(&pki, |it| answer(it, Framing::Chunked(2048)));
        let endless = Exporter::start(|it| {
            it.read_request()?;
            it.bound_send_buffer(SEND_BUFFER)?;
            it.send(CHUNKED)?;
            loop {
                it.send(b"9\r\na_line 1\n\r\n".repeat(1000))?;
            }
        });
        let faulty = Exporter::start(fail);
        let sections = [
            chunked.section("chunked") + SCRAPERS,
            plain.section("plain") + SCRAPERS,
            encrypted.section("encrypted"),
            endless.section("endless"),
            faulty.section("faulty") + SCRAPERS,
            faulty.section("stalling") + "timeout = 1\n",
            "\n[down]\nenabled = True\nport = 1\npath = /metrics\n".to_owned(),
        ]
        .concat();
        let revocable =
            forge::credentials(pki.ca(), |it| it.serial_number = Some(REVOCABLE.into()), &[]);
        fs::write(pki.path(REVOKED), forge::revocation_list(pki.ca(), &[], -1..30))
            .expect("a folder of ours");
        let proxy = Proxy::start(&config_ini(&pki, Looks::Never), &sections);
        let exporters = [chunked, plain, encrypted, endless, faulty];
        let refusals = AtomicUsize::new(0);
        Self { pki, proxy, revocable, refusals, sections, _exporters: exporters }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Connects with a valid client certificate.
    pub(crate) fn connect(&self) -> io::Result<Client> {
        Client::connect(self.address(), self.pki.client(BOTH_VERSIONS))
    }

    /// Connects with the certificate that is revoked at times. Returns the status of an answer, or
    /// `None` if the certificate was refused as revoked.
    pub(crate) fn status_for_revocable(&self) -> io::Result<Option<u16>> {
        let chain = self.revocable.chain.clone();
        let config = self.pki.client_with(BOTH_VERSIONS, chain, &self.revocable.key);
        let answer = Client::connect(self.address(), config).and_then(|mut client| {
            client.send_get("/-/ready")?;
            client.read_response()
        });
        match answer {
            Ok(response) => Ok(Some(response.head.status)),
            Err(error) if alert_in(&error) == Some(AlertDescription::CertificateRevoked) => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// How often the revocable certificate was refused.
    pub(crate) fn refusals(&self) -> usize {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Enables or disables that the proxy notices changes of the files by itself.
    pub(crate) fn have_it_look(&self, looks: Looks) -> io::Result<()> {
        self.replace("config.ini", &config_ini(&self.pki, looks))
    }

    /// Replaces the CRL.
    pub(crate) fn revoke(&self, is_revoked: bool) -> io::Result<()> {
        let serials: &[u64] = if is_revoked { &[REVOCABLE] } else { &[] };
        let list = forge::revocation_list(self.pki.ca(), serials, -1..30);
        let next = self.pki.path("next.crl");
        fs::write(&next, list)?;
        fs::rename(next, self.pki.path(REVOKED))
    }

    /// Replaces the exporters file. `more` is appended to the permanent sections.
    pub(crate) fn list_exporters(&self, more: &str) -> io::Result<()> {
        self.replace("prometheus_exporters.ini", &format!("{}{more}", self.sections))
    }

    /// Replaces the file atomically, as editors and configuration management do.
    fn replace(&self, file: &str, contents: &str) -> io::Result<()> {
        let next = self.proxy.folder().join("next.ini");
        fs::write(&next, contents)?;
        fs::rename(next, self.proxy.folder().join(file))
    }

    /// The resources of the proxy after it has served and reloaded, without any connection.
    pub(crate) fn settled(&self) -> Holdings {
        for exporter in ["chunked", "plain", "encrypted"].iter().cycle().take(SETTLING) {
            let mut client = self.connect().expect("a handshake");
            let response = client.get(&format!("/prometheus?exporter={exporter}&bytes=1000"));
            assert!(response.body.is_complete(), "a scrape in peace: {response:?}");
        }
        let status = self.status_for_revocable().expect("an answer");
        assert_eq!(status, Some(200), "its certificate is not revoked yet");
        self.proxy.signal("HUP");
        self.proxy.wait_for_log("a reload", |record| record["fields"]["message"] == "reloaded");
        thread::sleep(Duration::from_secs(1));
        self.holdings()
    }

    pub(crate) fn holdings(&self) -> Holdings {
        Holdings {
            descriptors: self.proxy.open_fds() as u64,
            threads: self.proxy.threads(),
            rss_kib: self.proxy.rss_kib(),
        }
    }

    /// The resources of the proxy as soon as they are as `before`, or after [`REST`].
    pub(crate) fn at_rest_again(&self, before: &Holdings) -> Holdings {
        let ended = Instant::now();
        loop {
            let now = self.holdings();
            if now.is_at_rest(before) || ended.elapsed() >= REST {
                return now;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Holdings {
    /// Whether there are no more descriptors than `before`, and at most one more thread. If a check
    /// of the files, which can run each second, coincides with a reload, each reads on its own
    /// thread, and tokio keeps both threads while there is work for them.
    pub(crate) fn is_at_rest(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors && self.threads <= before.threads + 1
    }
}

/// Whether the proxy notices changes of its files by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Looks {
    Never,
    /// Once a second.
    Often,
}

fn config_ini(pki: &Pki, looks: Looks) -> String {
    // One day, which is longer than any soak.
    let seconds = match looks {
        Looks::Never => 86_400,
        Looks::Often => 1,
    };
    let list = pki.path(REVOKED);
    pki.config_ini(&format!(
        "client-crl = {}\nhttp-reload = True\nreload-interval = {seconds}\n",
        list.display()
    ))
}

/// For exporters that several scrapers ask at the same time.
const SCRAPERS: &str = "max-concurrent = 20\n";

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Answers with as many bytes as the parameter `bytes` says.
fn answer(it: &mut Conversation, framing: Framing) -> io::Result<()> {
    let request = it.read_request()?;
    let bytes = parameter(&request, "bytes=").and_then(|bytes| bytes.parse().ok());
    it.answer("", framing, Body::text(bytes.ok_or(io::ErrorKind::InvalidInput)?))
}

/// Produces the fault that the parameter `fault` names.
fn fail(it: &mut Conversation) -> io::Result<()> {
    let request = it.read_request()?;
    match parameter(&request, "fault=").unwrap_or_default() {
        "close" => Ok(()),
        "reset" => it.reset_at_end(),
        "garbage" => it.send("220 mail.example ESMTP\r\n"),
        "stall" => {
            it.wait_until_closed();
            Ok(())
        }
        "close-in-body" => it.send(format!("{CHUNKED}9\r\na_li")),
        "reset-in-body" => {
            it.send(format!("{CHUNKED}9\r\na_li"))?;
            it.reset_at_end()
        }
        "garbage-in-body" => it.send(format!("{CHUNKED}9\r\na_line 1\n\r\nxyz\r\n")),
        "stall-in-body" => {
            it.send(format!("{CHUNKED}9\r\na_line 1\n\r\n"))?;
            it.wait_until_closed();
            Ok(())
        }
        other => Err(io::Error::other(format!("no fault {other:?}"))),
    }
}

/// The value of the query parameter `name` in the target of a request.
fn parameter<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let target = request.split(' ').nth(1)?;
    let (_, value) = target.split_once(name)?;
    value.split('&').next()
}
