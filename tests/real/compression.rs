//! Prometheus, curl, and a client in Go decode what the proxy compresses.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use aws_lc_rs::digest;
use scrapegate_harness::{
    body::hex,
    exporter::{Conversation, Exporter},
    pki::Pki,
    proxy::Proxy,
};
use tempfile::TempDir;

use crate::daemons::{Daemon, curl_through, wait_for};

/// Number of series of the exporter.
const SERIES: u64 = 20_000;

/// The exporter's body, of more than a megabyte.
fn exposition() -> String {
    let mut body = "# HELP x_total A counter.\n# TYPE x_total counter\n".to_owned();
    for number in 0..SERIES {
        let instance = number.wrapping_mul(2_654_435_761) % 0xffff_ffff;
        writeln!(body, "x_total{{number=\"{number}\",instance=\"i-{instance:08x}\"}} {number}")
            .expect("a string grows");
    }
    body
}

/// Answers in chunks of 4 KiB, as Go's net/http does. If the request says `cut`, the last chunk is
/// missing.
fn answer(conversation: &mut Conversation, body: &str) -> std::io::Result<()> {
    let is_cut = conversation.read_request()?.contains("?cut");
    conversation.send(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
    )?;
    for chunk in body.as_bytes().chunks(4096) {
        conversation.send(format!("{:x}\r\n", chunk.len()))?;
        conversation.send(chunk)?;
        conversation.send("\r\n")?;
    }
    if is_cut { conversation.end() } else { conversation.send("0\r\n\r\n") }
}

/// The proxy in front of the exporter.
fn stage() -> (Pki, Exporter, Proxy) {
    let pki = Pki::new();
    let body = exposition();
    let exporter = Exporter::start(move |conversation| answer(conversation, &body));
    let filtered = exporter.section("filtered") + "compression = always\nmetrics-drop = y\n";
    let section = exporter.section("x") + "compression = always\n" + &filtered;
    let proxy = Proxy::start(&pki.config_ini(""), &section);
    (pki, exporter, proxy)
}

#[test]
fn curl_decodes_both_codings_to_exactly_the_exporters_bytes() {
    let (pki, _exporter, proxy) = stage();
    for coding in ["zstd", "gzip"] {
        let accept = format!("Accept-Encoding: {coding}");
        let output = curl_through(&proxy, &pki, "x", &["--compressed", "--header", &accept]);
        assert!(output.status.success(), "{coding}: {output:?}");
        assert!(output.stdout == exposition().as_bytes(), "{coding}: other bytes");
        let scrape = proxy.wait_for_log(coding, |record| record["fields"]["encoding"] == coding);
        let [sent, received] = ["bytes", "received_bytes"].map(|it| scrape["fields"][it].as_u64());
        assert_eq!(received, Some(exposition().len() as u64), "{scrape}");
        assert!(sent.is_some_and(|sent| sent < exposition().len() as u64 / 4), "{scrape}");
    }
}

#[test]
fn prometheus_has_every_sample_of_an_answer_that_the_proxy_compressed_with_gzip() {
    let (pki, _exporter, proxy) = stage();
    let prometheus = Daemon::prometheus(&format!(
        "global:\n  scrape_interval: 2s\n  scrape_timeout: 2s\nscrape_configs:
  - job_name: x
    scheme: https
    metrics_path: /prometheus
    params:
      exporter: [x]
    tls_config:
      ca_file: {ca}
      cert_file: {cert}
      key_file: {key}
      server_name: localhost
    static_configs:
      - targets: ['{target}']
",
        ca = pki.path("ca.pem").display(),
        cert = pki.path("client.pem").display(),
        key = pki.path("client.key").display(),
        target = proxy.address(),
    ));
    for (query, expected) in [
        ("up{job=\"x\"}", "1".to_owned()),
        ("count(x_total)", SERIES.to_string()),
        ("sum(x_total)", (SERIES * (SERIES - 1) / 2).to_string()),
    ] {
        wait_for(query, || {
            let result = prometheus.api("query", &["--data-urlencode", &format!("query={query}")]);
            let is_it = result["result"][0]["value"][1] == expected.as_str();
            if is_it { Ok(()) } else { Err(result) }
        });
    }
    let scrape = proxy.wait_for_scrape("x");
    assert_eq!(scrape["encoding"], "gzip", "{scrape}");
    assert_eq!(scrape["outcome"], "complete", "{scrape}");
}

/// A scraper in Go with an own decoder of zstd. Debian has no program that is one.
struct GoClient {
    program: PathBuf,
    _folder: TempDir,
}

impl GoClient {
    fn build() -> Self {
        let folder = TempDir::with_prefix("scrapegate-go-").expect("a temporary folder");
        let program = folder.path().join("client");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/go_client/main.go");
        let built = Command::new("go")
            .args(["build", "-o"])
            .args([&program, &source])
            // The libraries are Debian's, so nothing is downloaded.
            .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOFLAGS", "")])
            .env("GOCACHE", folder.path().join("cache"))
            .output()
            .expect("go runs");
        assert!(built.status.success(), "{built:?}");
        Self { program, _folder: folder }
    }

    fn get(&self, proxy: &Proxy, pki: &Pki, query: &str, accepts: Option<&str>) -> Output {
        let port = proxy.address().port();
        Command::new(&self.program)
            .arg(format!("https://localhost:{port}/prometheus?exporter={query}"))
            .args(["ca.pem", "client.pem", "client.key"].map(|file| pki.path(file)))
            .args(accepts)
            .output()
            .expect("the client runs")
    }
}

#[test]
fn a_client_in_go_decodes_both_codings_and_never_takes_a_cut_answer_for_a_whole_one() {
    let (pki, _exporter, proxy) = stage();
    let client = GoClient::build();
    let hash = hex(digest::digest(&digest::SHA256, exposition().as_bytes()).as_ref());
    for (accepts, coding) in
        [(Some("zstd"), "zstd"), (Some("gzip"), "gzip"), (None, "gzip by net/http")]
    {
        for exporter in ["x", "filtered"] {
            let output = client.get(&proxy, &pki, exporter, accepts);
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(printed, format!("{coding} {hash}\n"), "{exporter}: {output:?}");
            let cut = client.get(&proxy, &pki, &format!("{exporter}&cut"), accepts);
            assert!(!cut.status.success() && cut.stdout.is_empty(), "{exporter}: {cut:?}");
        }
    }
}
