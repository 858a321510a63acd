//! Prometheus scrapes the real exporters through the proxy over mutual TLS.

use scrapegate_harness::{
    client::Client,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};
use serde_json::Value;

use crate::daemons::{Daemon, wait_for};

/// Both exporters, the proxy in front of them, and Prometheus in front of it.
struct Stage {
    /// `None` while node_exporter is stopped.
    node_exporter: Option<Daemon>,
    _mysqld_exporter: Daemon,
    proxy: Proxy,
    prometheus: Daemon,
    _pki: Pki,
}

impl Stage {
    fn set() -> Self {
        let pki = Pki::new();
        let node_exporter = Daemon::node_exporter();
        let mysqld_exporter = Daemon::mysqld_exporter();
        let exporters = section("node_exporter", &node_exporter)
            + &section("mysqld_exporter", &mysqld_exporter);
        let proxy = Proxy::start(&pki.config_ini(""), &exporters);
        let prometheus = Daemon::prometheus(&scrape_configs(&pki, &proxy));
        Self {
            node_exporter: Some(node_exporter),
            _mysqld_exporter: mysqld_exporter,
            proxy,
            prometheus,
            _pki: pki,
        }
    }

    /// Waits until the first value of `query` is `expected`.
    fn wait_for_value(&self, query: &str, expected: impl Fn(f64) -> bool) {
        self.wait_for(query, |stage| {
            let result =
                stage.prometheus.api("query", &["--data-urlencode", &format!("query={query}")]);
            let value = result["result"][0]["value"][1].as_str();
            match value.and_then(|it| it.parse().ok()) {
                Some(number) if expected(number) => Ok(()),
                _ => Err(result),
            }
        });
    }

    /// Waits until the target of `job` has this health and an error that contains `error`.
    fn wait_for_target(&self, job: &str, health: &str, error: &str) {
        self.wait_for(&format!("{job} {health}"), |stage| {
            let targets = stage.prometheus.api("targets", &[]);
            let target = targets["activeTargets"]
                .as_array()
                .and_then(|all| all.iter().find(|it| it["labels"]["job"] == job));
            match target {
                Some(it)
                    if it["health"] == health
                        && it["lastError"].as_str().is_some_and(|it| it.contains(error)) =>
                {
                    Ok(())
                }
                _ => Err(targets),
            }
        });
    }

    fn wait_for(&self, what: &str, look: impl Fn(&Self) -> Result<(), Value>) {
        wait_for(what, || look(self));
    }
}

fn section(name: &str, exporter: &Daemon) -> String {
    format!(
        "[{name}]\nenabled = True\nmethod = http\nhost = 127.0.0.1\nport = {}\npath = /metrics\n\
         interval = 15\ntimeout = 5\n\n",
        exporter.address().port()
    )
}

fn scrape_configs(pki: &Pki, proxy: &Proxy) -> String {
    let jobs = ["node_exporter", "mysqld_exporter"].map(|exporter| {
        format!(
            "  - job_name: {exporter}
    scheme: https
    metrics_path: /prometheus
    params:
      exporter: [{exporter}]
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
        )
    });
    format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n{}",
        jobs.concat()
    )
}

#[test]
fn prometheus_has_the_samples_of_both_exporters_and_both_are_up() {
    let stage = Stage::set();
    stage.wait_for_target("node_exporter", "up", "");
    stage.wait_for_target("mysqld_exporter", "up", "");
    stage.wait_for_value("up{job=\"node_exporter\"}", |up| up == 1.0);
    stage.wait_for_value("up{job=\"mysqld_exporter\"}", |up| up == 1.0);
    stage.wait_for_value("count(node_cpu_seconds_total)", |count| count > 0.0);
    stage.wait_for_value("mysql_up", |up| up == 0.0);

    let scrape = stage.proxy.wait_for_scrape("node_exporter");
    assert_eq!(scrape["status"], 200, "{scrape}");
    assert!(scrape["bytes"].as_u64() > Some(1000), "{scrape}");
    assert!(
        scrape["client"].as_str().is_some_and(|it| it.contains("scraper")),
        "the client's identity is in the record: {scrape}"
    );
}

#[test]
fn a_stopped_exporter_shows_the_cause_on_the_targets_page_and_recovers_by_itself() {
    let mut stage = Stage::set();
    stage.wait_for_target("node_exporter", "up", "");

    let node_exporter = stage.node_exporter.take().expect("a running process");
    let address = node_exporter.address().to_string();
    node_exporter.stop();
    stage.wait_for_target("node_exporter", "down", "502 exporter refused the connection");
    stage.wait_for_value("up{job=\"node_exporter\"}", |up| up == 0.0);
    stage.wait_for_target("mysqld_exporter", "up", "");

    stage.node_exporter = Some(Daemon::node_exporter_on(&address));
    stage.wait_for_target("node_exporter", "up", "");
    stage.wait_for_value("up{job=\"node_exporter\"}", |up| up == 1.0);
}

#[test]
fn collect_parameters_narrow_what_node_exporter_answers() {
    let pki = Pki::new();
    let node_exporter = Daemon::node_exporter();
    let proxy = Proxy::start(&pki.config_ini(""), &section("node_exporter", &node_exporter));
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");

    let loadavg = client.get("/prometheus?exporter=node_exporter&collect[]=loadavg");
    assert_eq!(loadavg.head.status, 200, "{loadavg:?}");
    assert!(loadavg.body.is_complete(), "{loadavg:?}");
    assert!(loadavg.body.text().contains("\nnode_load1 "));
    assert!(!loadavg.body.text().contains("node_cpu_seconds_total"));

    let both = client.get("/prometheus?collect[]=cpu&exporter=node_exporter&collect[]=loadavg");
    assert!(both.body.is_complete(), "{both:?}");
    assert!(both.body.text().contains("\nnode_load1 "));
    assert!(both.body.text().contains("node_cpu_seconds_total"));
}
