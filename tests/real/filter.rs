//! promtool judges what the filter of metric families leaves of real exporters' answers.

use std::collections::BTreeSet;

use scrapegate_harness::{pki::Pki, proxy::Proxy};

use crate::{
    daemons::{Daemon, curl_through},
    own_metrics::promtool,
};

/// The filters, by the name of the section.
const FILTERS: [(&str, &str); 5] = [
    ("drop_one", "metrics-drop = go_gc_duration_seconds"),
    ("drop_many", "metrics-drop = go_.*|process_.*|.*_total"),
    ("keep_some", "metrics-keep = node_cpu.*|node_memory_Mem.*|mysql_.*"),
    ("keep_and_drop", "metrics-keep = [a-p].*\nmetrics-drop = .*_(info|seconds)"),
    ("drop_nothing", "metrics-drop = no_such_family"),
];

/// What promtool finds wrong with an exposition, a line for each mistake. promtool must be able to
/// read it.
fn mistakes(text: &str) -> BTreeSet<String> {
    let checked = promtool(&["check", "metrics"], ".", text);
    // 3: only mistakes of style.
    assert!(matches!(checked.status.code(), Some(0 | 3)), "{checked:?}");
    String::from_utf8_lossy(&checked.stderr).lines().map(str::to_owned).collect()
}

#[test]
fn promtool_finds_no_new_mistake_in_a_filtered_answer() {
    for daemon in [Daemon::node_exporter(), Daemon::mysqld_exporter()] {
        let section = |name: &str, keys: &str| {
            let port = daemon.address().port();
            format!(
                "[{name}]\nenabled = True\nhost = 127.0.0.1\nport = {port}\npath = /metrics\n{keys}\n"
            )
        };
        let filtered: String = FILTERS.iter().map(|(name, keys)| section(name, keys)).collect();
        let pki = Pki::new();
        let proxy = Proxy::start(&pki.config_ini(""), &(section("plain", "") + &filtered));
        let get = |name: &str| {
            let output = curl_through(&proxy, &pki, name, &["--fail"]);
            assert!(output.status.success(), "{name}: {output:?}");
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let plain = get("plain");
        let lines: Vec<&str> = plain.lines().collect();
        let known = mistakes(&plain);
        for (name, keys) in FILTERS {
            let left = get(name);
            assert!(left.ends_with('\n') && left.len() <= plain.len() + plain.len() / 10);
            let found = mistakes(&left);
            assert!(found.is_subset(&known), "{keys}: {found:?}");
            // Each comment is one of the exporter's, and so are the names of all samples.
            for line in left.lines() {
                let name = line.split([' ', '{']).next();
                let is_known = |other: &str| match line.strip_prefix('#') {
                    Some(_) => other == line,
                    None => other.split([' ', '{']).next() == name,
                };
                assert!(lines.iter().any(|other| is_known(other)), "{keys}: {line}");
            }
        }
        let left = get("drop_many");
        let is_dropped = |line: &str| line.starts_with("go_") || line.contains("_total ");
        assert!(plain.lines().any(is_dropped) && !left.lines().any(is_dropped), "{left}");
    }
}
