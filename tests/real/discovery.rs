//! Prometheus discovers the exporters with the configuration that `scrapegate sd` prints.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use scrapegate_harness::{
    pki::Pki,
    proxy::{Proxy, binary},
};
use serde_json::Value;

use crate::daemons::{Daemon, curl, wait_for};

pub(crate) const EXPORTERS: &str = "prometheus_exporters.ini";

/// A proxy, and the output of `sd` for it.
pub(crate) struct Site {
    pub(crate) pki: Pki,
    pub(crate) proxy: Proxy,
}

impl Site {
    pub(crate) fn new(exporters: &str) -> Self {
        Self::with_proxy_keys("", exporters)
    }

    /// With these lines in `[proxy]`.
    pub(crate) fn with_proxy_keys(keys: &str, exporters: &str) -> Self {
        let pki = Pki::new();
        let config = pki.config_ini(&format!("advertise = 127.0.0.1\n{keys}"));
        let proxy = Proxy::start(&config, exporters);
        Self { pki, proxy }
    }

    /// Runs `sd` and replaces the placeholder paths in its output by those of the test's files.
    pub(crate) fn sd(&self, arguments: &[&str]) -> String {
        let printed = Command::new(binary())
            .arg("sd")
            .arg("--config")
            .arg(self.proxy.folder().join("config.ini"))
            .args(["--listen", &self.proxy.address().to_string()])
            .args(arguments)
            .output()
            .expect("the binary runs");
        assert!(printed.status.success(), "{printed:?}");
        let mut text = String::from_utf8(printed.stdout).expect("UTF-8");
        for (proposed, is) in
            [("ca.crt", "ca.pem"), ("client.crt", "client.pem"), ("client.key", "client.key")]
        {
            let proposed = format!("/etc/prometheus/scrapegate/{proposed}");
            text = text.replace(&proposed, &self.pki.path(is).display().to_string());
        }
        text
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.proxy.folder().join(name);
        fs::write(&path, text).expect("written");
        path
    }
}

fn section(name: &str, exporter: &Daemon, interval: &str, timeout: &str) -> String {
    let port = exporter.address().port();
    format!(
        "[{name}]\nenabled = True\nhost = 127.0.0.1\nport = {port}\npath = /metrics\n\
         interval = {interval}\ntimeout = {timeout}\n\n"
    )
}

/// `name interval timeout health` of each target, sorted.
fn targets(prometheus: &Daemon) -> Vec<String> {
    let data = prometheus.api("targets", &[]);
    let all = data["activeTargets"].as_array().expect("a list");
    let mut targets: Vec<_> = all
        .iter()
        .map(|it| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let job = text(&it["labels"]["job"]);
            [job, text(&it["scrapeInterval"]), text(&it["scrapeTimeout"]), text(&it["health"])]
                .join(" ")
        })
        .collect();
    targets.sort();
    targets
}

#[track_caller]
fn wait_for_targets(prometheus: &Daemon, expected: &[&str]) {
    wait_for(&format!("{expected:?}"), || {
        let seen = targets(prometheus);
        if seen == expected { Ok(()) } else { Err(seen.into()) }
    });
}

fn promtool(arguments: &[&str], file: &Path, more: &[&str]) -> String {
    let checked = Command::new("promtool").args(arguments).arg(file).args(more).output();
    let checked = checked.expect("promtool runs");
    assert!(checked.status.success(), "{checked:?}");
    String::from_utf8(checked.stdout).expect("UTF-8")
}

#[test]
fn prometheus_follows_a_reload_and_keeps_its_targets_if_the_files_have_mistakes() {
    let exporter = Daemon::node_exporter();
    let before = section("fast", &exporter, "1", "0.9") + &section("slow", &exporter, "2.5", "2");
    let site = Site::new(&before);
    let config = site.sd(&["--format", "scrape_config"]);
    // The default of one minute is too long for a test.
    let (above, below) = config.split_once("/prometheus/sd\"\n").expect("a URL");
    // The job for the proxy itself uses the global interval. Prometheus spreads first scrapes over
    // the interval, so the default of one minute is too long, too.
    let config = format!(
        "global:\n  scrape_interval: 1s\n{above}/prometheus/sd\"\n        refresh_interval: 1s\n{below}"
    );
    let prometheus = Daemon::prometheus(&config);
    let own = "scrapegate 1s 1s up";
    let two = ["fast 1s 900ms up", own, "slow 2500ms 2s up"];
    wait_for_targets(&prometheus, &two);

    site.write(EXPORTERS, &(before + &section("new", &exporter, "1", "1")));
    site.proxy.signal("HUP");
    let three = [two[0], "new 1s 1s up", own, two[2]];
    wait_for_targets(&prometheus, &three);

    site.write(EXPORTERS, "[fast\n");
    site.proxy.signal("HUP");
    wait_for("a failed discovery", || {
        let metrics = curl([format!("http://{}/metrics", prometheus.address())]);
        let metrics = String::from_utf8_lossy(&metrics.stdout).into_owned();
        let failures = "prometheus_sd_http_failures_total ";
        match metrics.lines().find_map(|line| line.strip_prefix(failures)) {
            Some("0") | None => Err(Value::Null),
            Some(_) => Ok(()),
        }
    });
    assert_eq!(targets(&prometheus), three);
}

#[test]
fn promtool_accepts_the_output_of_sd_and_finds_the_exporters_with_it() {
    let exporter = Daemon::node_exporter();
    let site = Site::new(&(section("a \"b\" \u{e4}", &exporter, "30", "1.5")));
    for more in [&[][..], &["--static"]] {
        let text = site.sd(&[&["--format", "scrape_config"], more].concat());
        let file = site.write("prometheus.yml", &text);
        promtool(&["check", "config"], &file, &[]);
    }

    let file = site.write("prometheus.yml", &site.sd(&["--format", "scrape_config"]));
    let found =
        promtool(&["check", "service-discovery", "--timeout=5s"], &file, &["scrapegate_exporters"]);
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found[0]["discoveredLabels"]["__scrape_timeout__"], "1500ms", "{found:#}");
    assert_eq!(found[0]["labels"]["job"], "a \"b\" \u{e4}", "{found:#}");

    let list = site.write("targets.json", &site.sd(&["--format", "file_sd"]));
    let config = format!(
        "scrape_configs:\n  - job_name: x\n    file_sd_configs:\n      - files: ['{}']\n",
        list.display()
    );
    let file = site.write("prometheus.yml", &config);
    promtool(&["check", "config"], &file, &[]);
    let found = promtool(&["check", "service-discovery", "--timeout=5s"], &file, &["x"]);
    let found: Value = serde_json::from_str(&found).expect("JSON");
    let address = site.proxy.address().to_string();
    assert_eq!(found[0]["labels"]["instance"], address.as_str(), "{found:#}");
}
