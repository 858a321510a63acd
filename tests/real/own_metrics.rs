//! Prometheus and promtool check the proxy's own metrics and the dashboard. `alerts` has the tests
//! of the alerts.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use scrapegate_harness::{
    body::Body,
    client::Client,
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};
use serde_json::Value;

use crate::daemons::{Daemon, wait_for};

pub(crate) fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path)
}

/// Runs promtool in a folder of `packaging`, with `input` on standard input.
pub(crate) fn promtool(arguments: &[&str], folder: &str, input: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(packaging(folder))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes())
        .expect("promtool reads its input");
    child.wait_with_output().expect("promtool ends")
}

/// The proxy before an exporter that has been scraped once and whose name needs escaping.
struct Stage {
    pki: Pki,
    proxy: Proxy,
    client: Client,
    _exporter: Exporter,
}

impl Stage {
    fn set() -> Self {
        let pki = Pki::new();
        let exporter = Exporter::start(|it| {
            it.read_request()?;
            it.answer("", Framing::ContentLength, Body::text(6400))
        });
        let sections = exporter.section("good") + &exporter.section("\"x\\ {y=\"z\"}");
        let proxy = Proxy::start(&pki.config_ini(""), &sections);
        let config = pki.client(BOTH_VERSIONS);
        let mut client = Client::connect(proxy.address(), config).expect("a handshake");
        for name in ["good", "%22x%5C+%7By=%22z%22%7D", "nobody"] {
            client.get(&format!("/prometheus?exporter={name}"));
        }
        Self { pki, proxy, client, _exporter: exporter }
    }

    /// Prometheus, which scrapes the proxy once a second and has the rules of `packaging`.
    fn prometheus(&self) -> Daemon {
        Daemon::prometheus(&format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ['{rules}']
scrape_configs:
  - job_name: scrapegate
    scheme: https
    tls_config:
      ca_file: {ca}
      cert_file: {cert}
      key_file: {key}
      server_name: localhost
    static_configs:
      - targets: ['{target}']
",
            rules = packaging("prometheus/scrapegate.rules.yml").display(),
            ca = self.pki.path("ca.pem").display(),
            cert = self.pki.path("client.pem").display(),
            key = self.pki.path("client.key").display(),
            target = self.proxy.address(),
        ))
    }
}

pub(crate) fn query(prometheus: &Daemon, query: &str) -> Value {
    prometheus.api("query", &["--data-urlencode", &format!("query={query}")])["result"].take()
}

#[test]
fn promtool_finds_no_mistake_in_the_text_format() {
    let mut stage = Stage::set();
    let page = stage.client.get("/metrics").body.text();
    let checked = promtool(&["check", "metrics"], ".", &page);
    assert!(checked.status.success(), "{checked:?}");
    assert!(checked.stdout.is_empty() && checked.stderr.is_empty(), "{checked:?}");
    // Control: promtool reports a mistake.
    let checked = promtool(&["check", "metrics"], ".", &page.replace("_total", "_sum_of"));
    assert!(!checked.status.success() || !checked.stderr.is_empty(), "{checked:?}");
}

#[test]
fn prometheus_reads_the_own_metrics_as_openmetrics() {
    let stage = Stage::set();
    let prometheus = stage.prometheus();
    wait_for("up", || {
        let up = query(&prometheus, "up{job=\"scrapegate\"}");
        if up[0]["value"][1] == "1" { Ok(()) } else { Err(prometheus.api("targets", &[])) }
    });
    let value = |it: &str| query(&prometheus, it)[0]["value"][1].as_str().map(str::to_owned);
    let complete = "scrapegate_scrapes_total{exporter=\"good\",outcome=\"complete\"}";
    assert_eq!(value(complete).as_deref(), Some("1"));
    let hostile = r#"scrapegate_scrapes_in_flight{exporter="\"x\\ {y=\"z\"}"}"#;
    assert_eq!(value(hostile).as_deref(), Some("0"));
    assert_eq!(value("count(scrapegate_build_info)").as_deref(), Some("1"));
    // The text format has no units, so this shows that Prometheus requested and received
    // OpenMetrics.
    for (metric, kind, unit) in [
        ("scrapegate_scrape_duration_seconds", "histogram", "seconds"),
        ("scrapegate_response_bytes", "counter", "bytes"),
        ("scrapegate_build", "info", ""),
    ] {
        let metadata =
            prometheus.api("targets/metadata", &["--data-urlencode", &format!("metric={metric}")]);
        assert_eq!(metadata[0]["type"], kind, "{metric}: {metadata}");
        assert_eq!(metadata[0]["unit"], unit, "{metric}: {metadata}");
    }
}

#[test]
fn prometheus_can_evaluate_the_alerts_and_every_query_of_the_dashboard() {
    let stage = Stage::set();
    let prometheus = stage.prometheus();
    wait_for("the rules", || {
        let groups = prometheus.api("rules", &[])["groups"].take();
        let rules = groups[0]["rules"].as_array().cloned().unwrap_or_default();
        let in_order = rules.iter().filter(|it| it["health"] == "ok").count();
        if in_order == rules.len() && in_order > 10 { Ok(()) } else { Err(groups) }
    });
    // A rate needs two samples.
    wait_for("two samples", || {
        let counted = query(&prometheus, "count_over_time(scrapegate_connections[1m])");
        let count = counted[0]["value"][1].as_str().and_then(|it| it.parse::<u32>().ok());
        if count >= Some(2) { Ok(()) } else { Err(counted) }
    });
    let dashboard = fs::read_to_string(packaging("grafana/scrapegate.json")).expect("a file");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<String> = targets
        .map(|target| {
            let query = target["expr"].as_str().expect("a query");
            query
                .replace("$__rate_interval", "1m")
                .replace("$job", ".+")
                .replace("$instance", ".+")
                .replace("$exporter", ".+")
        })
        .collect();
    assert!(queries.len() > 20 && !queries.iter().any(|it| it.contains('$')), "{queries:#?}");
    let empty: Vec<&String> = queries
        .iter()
        .filter(|it| query(&prometheus, it).as_array().is_none_or(Vec::is_empty))
        .collect();
    // These metrics have samples only after a failure.
    assert!(empty.iter().all(|it| it.ends_with("> 0")), "{empty:#?}");
}
