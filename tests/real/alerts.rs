//! The shipped alerts: none fires on a healthy host that was set up with the output of `sd`, and
//! each fires on its fault. promtool evaluates all alerts with their real times. A real Prometheus
//! evaluates those whose fault a test can cause, with shorter times.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use saphyr::{LoadableYamlNode as _, Yaml};
use scrapegate_harness::{
    body::Body,
    client::{Client, connect_from},
    exporter::{Exporter, Framing},
    pki::BOTH_VERSIONS,
};

use crate::{
    daemons::{Daemon, wait_for},
    discovery::{EXPORTERS, Site},
    own_metrics::{packaging, promtool, query},
};

const RULES: &str = "prometheus/scrapegate.rules.yml";

#[test]
fn f35_promtool_accepts_the_alerts_and_their_cases() {
    for command in
        [["check", "rules", "scrapegate.rules.yml"], ["test", "rules", "scrapegate.test.yml"]]
    {
        let checked = promtool(&command, "prometheus", "");
        assert!(checked.status.success(), "{checked:?}");
    }
}

/// A file of `packaging` as YAML.
fn with_yaml<T>(file: &str, read: impl FnOnce(&Yaml<'_>) -> T) -> T {
    let text = fs::read_to_string(packaging(file)).expect("a file");
    let documents = Yaml::load_from_str(&text).expect("YAML");
    read(&documents[0])
}

fn text(it: &Yaml<'_>) -> String {
    it.as_str().expect("a string").to_owned()
}

fn list<'a>(it: &'a Yaml<'a>) -> impl Iterator<Item = &'a Yaml<'a>> {
    it.as_sequence().expect("a list").iter()
}

/// Each alert of the rules with its expression.
fn alerts() -> Vec<(String, String)> {
    with_yaml(RULES, |rules| {
        let rules = list(&rules["groups"]).flat_map(|group| list(&group["rules"]));
        rules.map(|rule| (text(&rule["alert"]), text(&rule["expr"]))).collect()
    })
}

/// The metrics of an expression.
fn metrics(expression: &str) -> BTreeSet<&str> {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    expression
        .split(|c: char| !is_of_word(c))
        .filter(|word| word.starts_with("scrapegate_") || word.starts_with("process_"))
        .chain(expression.contains("up{").then_some("up"))
        .collect()
}

/// The input of a quiet case must contain the metrics of its alert. Without them, every alert is
/// quiet.
#[test]
fn f35_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_quiet() {
    let alerts = alerts();
    assert!(alerts.len() > 10, "{alerts:?}");
    let cases: Vec<(BTreeSet<String>, String, bool)> =
        with_yaml("prometheus/scrapegate.test.yml", |cases| {
            list(&cases["tests"])
                .flat_map(|case| {
                    let name = |series: &Yaml<'_>| {
                        let series = text(&series["series"]);
                        series.split('{').next().unwrap_or_default().to_owned()
                    };
                    let series: BTreeSet<String> = list(&case["input_series"]).map(name).collect();
                    list(&case["alert_rule_test"]).map(move |test| {
                        let fires = list(&test["exp_alerts"]).count() > 0;
                        (series.clone(), text(&test["alertname"]), fires)
                    })
                })
                .collect()
        });
    for (alert, expression) in alerts {
        let metrics = metrics(&expression);
        assert!(!metrics.is_empty(), "{alert}: {expression}");
        let of_alert = |fires: bool| {
            let has_all = |series: &BTreeSet<String>| metrics.iter().all(|it| series.contains(*it));
            cases.iter().any(|(series, name, as_expected)| {
                *name == alert && *as_expected == fires && has_all(series)
            })
        };
        assert!(of_alert(true), "{alert}: no case with {metrics:?} in which it fires");
        assert!(of_alert(false), "{alert}: no case with {metrics:?} in which it is quiet");
    }
}

/// The rules with shorter times, so that a test can wait for an alert.
fn rules_with_short_times() -> String {
    let mut rules = fs::read_to_string(packaging(RULES)).expect("a file");
    for time in ["5m", "10m", "15m", "1h"] {
        rules = rules.replace(&format!("for: {time}\n"), "for: 0s\n");
        rules = rules.replace(&format!("[{time}]"), "[10s]");
    }
    let is_left = |line: &&str| line.contains("for: ") && !line.contains("for: 0s");
    let left: Vec<&str> = rules.lines().filter(|it| is_left(it) && it.len() < 25).collect();
    assert!(left.is_empty() && !rules.contains("m]"), "{left:?}");
    rules
}

/// A healthy host: node_exporter and a second exporter, the proxy in front of them, and Prometheus
/// with the rules and the output of `sd`.
struct Host {
    site: Site,
    sections: String,
    node_exporter: Option<Daemon>,
    /// While true, the second exporter truncates its responses.
    is_cut: Arc<AtomicBool>,
    /// While true, the second exporter does not answer.
    is_stuck: Arc<AtomicBool>,
    _exporter: Exporter,
    prometheus: Daemon,
}

impl Host {
    fn healthy() -> Self {
        let node_exporter = Daemon::node_exporter();
        let (is_cut, is_stuck) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (cuts, sticks) = (is_cut.clone(), is_stuck.clone());
        let exporter = Exporter::start(move |it| {
            it.read_request()?;
            if sticks.load(Ordering::SeqCst) {
                it.wait_until_closed();
                return Ok(());
            }
            if cuts.load(Ordering::SeqCst) {
                it.send(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\na 1\n",
                )?;
                return it.end();
            }
            it.answer("Content-Type: text/plain\r\n", Framing::ContentLength, Body::text(6400))
        });
        let node = format!(
            "[node]\nenabled = True\nhost = 127.0.0.1\nport = {}\npath = /metrics\n",
            node_exporter.address().port()
        );
        let times = "interval = 2\ntimeout = 2\nmax-concurrent = 2\n";
        let sections = format!("{node}{times}{}{times}", exporter.section("other"));
        let site = Site::new(&sections);
        let prometheus = prometheus(&site, &site.sd(&["--format", "scrape_config"]));
        Self {
            site,
            sections,
            node_exporter: Some(node_exporter),
            is_cut,
            is_stuck,
            _exporter: exporter,
            prometheus,
        }
    }

    fn client(&self) -> Client {
        let config = self.site.pki.client(BOTH_VERSIONS);
        Client::connect(self.site.proxy.address(), config).expect("a handshake")
    }

    fn wait_until_up(&self) {
        for job in ["node", "other", "scrapegate"] {
            wait_for(&format!("{job} up"), || {
                let up = query(&self.prometheus, &format!("up{{job=\"{job}\"}}"));
                if up[0]["value"][1] == "1" { Ok(()) } else { Err(up) }
            });
        }
    }

    /// Repeats `cause` until the alert fires.
    #[track_caller]
    fn fires(&self, alert: &str, mut cause: impl FnMut(&Self)) {
        wait_for(alert, || {
            cause(self);
            let firing = firing(&self.prometheus);
            if firing.contains(alert) { Ok(()) } else { Err(Vec::from_iter(firing).into()) }
        });
    }
}

/// Prometheus with these `scrape_configs` and the rules. All its intervals are one second.
fn prometheus(site: &Site, scrape_configs: &str) -> Daemon {
    let rules = site.write("rules.yml", &rules_with_short_times());
    Daemon::prometheus(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: ['{}']\n{scrape_configs}",
        rules.display(),
    ))
}

/// The names of the alerts that fire now.
fn firing(prometheus: &Daemon) -> BTreeSet<String> {
    let mut alerts = prometheus.api("alerts", &[])["alerts"].take();
    let alerts = alerts.as_array_mut().expect("a list");
    alerts
        .iter_mut()
        .filter(|alert| alert["state"] == "firing")
        .map(|alert| alert["labels"]["alertname"].as_str().expect("a name").to_owned())
        .collect()
}

/// The number of samples of the proxy's own metrics.
fn own_samples(prometheus: &Daemon) -> u64 {
    let count = query(prometheus, "count_over_time(scrapegate_connections[10m])");
    count[0]["value"][1].as_str().and_then(|it| it.parse().ok()).unwrap_or_default()
}

#[test]
fn f35_no_alert_fires_on_a_healthy_host_and_each_fires_on_its_fault() {
    let mut host = Host::healthy();
    host.wait_until_up();
    let begun = own_samples(&host.prometheus);
    wait_for("enough samples", || {
        let count = own_samples(&host.prometheus);
        if count >= begun + 12 { Ok(()) } else { Err(count.into()) }
    });
    // No alert may have fired for a moment either. One may do so before the first scrape, which is
    // why this looks at the last 8 s only.
    let fired = query(&host.prometheus, "count_over_time(ALERTS[8s])");
    assert_eq!(fired, serde_json::json!([]), "{fired:#}");

    host.is_cut.store(true, Ordering::SeqCst);
    host.fires("ScrapegateTruncated", |_| ());
    host.is_cut.store(false, Ordering::SeqCst);
    drop(host.node_exporter.take());
    host.fires("ScrapegateScrapesFail", |_| ());
    host.fires("ScrapegateUnknownExporter", |it| {
        it.client().get("/prometheus?exporter=nobody");
    });
    let stranger = host.site.pki.stranger(BOTH_VERSIONS);
    host.fires("ScrapegateClientsRefused", |it| {
        for _ in 0..6 {
            let client = Client::connect(it.site.proxy.address(), stranger.clone());
            assert!(client.is_err() || client.is_ok_and(|mut it| it.read_some(1).is_err()));
        }
    });
    host.is_stuck.store(true, Ordering::SeqCst);
    let ask = |it: &Host| {
        let mut client = it.client();
        client.send_get("/prometheus?exporter=other").expect("sent");
        client
    };
    host.fires("ScrapegateTooManyScrapes", |it| {
        let clients: Vec<Client> = (0..4).map(|_| ask(it)).collect();
        // Gives the proxy time to refuse the excess scrapes before the clients leave. If it is too
        // short, `fires` repeats the cause.
        thread::sleep(Duration::from_millis(100));
        drop(clients);
    });
    host.fires("ScrapegateScraperTooSlow", |it| drop(ask(it)));
    host.is_stuck.store(false, Ordering::SeqCst);

    // Prometheus asks the proxy for its exporters only once a minute.
    let section = "\n[new]\nenabled = True\nhost = 127.0.0.1\nport = 9\npath = /metrics\n\
                   interval = 1\n";
    host.site.write(EXPORTERS, &format!("{}{section}", host.sections));
    host.site.pki.replace_server(-1..10);
    host.site.proxy.signal("HUP");
    host.fires("ScrapegateExporterOverdue", |_| ());
    host.fires("ScrapegateCertificateExpires", |_| ());
    assert!(!firing(&host.prometheus).contains("ScrapegateCertificateExpiresSoon"));
    host.site.pki.replace_server(-1..1);
    host.site.proxy.signal("HUP");
    host.fires("ScrapegateCertificateExpiresSoon", |_| ());

    assert!(!firing(&host.prometheus).contains("ScrapegateReloadFailed"));
    host.site.write(EXPORTERS, "[node\n");
    host.site.proxy.signal("HUP");
    host.fires("ScrapegateReloadFailed", |_| ());

    host.site.proxy.signal("KILL");
    host.fires("ScrapegateDown", |_| ());
    assert!(!firing(&host.prometheus).contains("ScrapegateAbsent"));
}

#[test]
fn f35_too_many_connections_of_one_address_fire_an_alert() {
    let exporter = Daemon::node_exporter();
    let site = Site::with_proxy_keys(
        "max-connections-per-ip = 8\n",
        &format!(
            "[node]\nenabled = True\nhost = 127.0.0.1\nport = {}\npath = /metrics\n",
            exporter.address().port()
        ),
    );
    let prometheus = prometheus(&site, &site.sd(&["--format", "scrape_config"]));
    let mut connections = Vec::new();
    wait_for("ScrapegateNotAccepting", || {
        connections.extend(
            (0..10).filter_map(|_| connect_from([127, 0, 0, 2].into(), site.proxy.address()).ok()),
        );
        let firing = firing(&prometheus);
        if firing.contains("ScrapegateNotAccepting") {
            Ok(())
        } else {
            Err(Vec::from_iter(firing).into())
        }
    });
}

/// The output of `sd` from before it had a job for the proxy itself.
#[test]
fn f35_an_alert_fires_if_the_proxys_own_job_is_missing() {
    let site = Site::new("");
    let printed = site.sd(&["--format", "scrape_config"]);
    let (exporters, _) = printed.split_once("\n  # scrapegate's own metrics").expect("its own job");
    let prometheus = prometheus(&site, exporters);
    wait_for("ScrapegateAbsent", || {
        let firing = firing(&prometheus);
        if firing.contains("ScrapegateAbsent") {
            Ok(())
        } else {
            Err(Vec::from_iter(firing).into())
        }
    });
}
