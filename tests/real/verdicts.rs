//! Prometheus, promtool and `probe` on the table of bodies in `tests/data/verdicts.txt`.

use std::{
    collections::HashMap,
    io::Write as _,
    process::{Command, Stdio},
    sync::Arc,
};

use scrapegate_harness::{
    exporter::{Conversation, Exporter},
    proxy::binary,
    verdicts::{Row, rows},
};
use serde_json::{Value, json};

use crate::daemons::{Daemon, wait_for};

/// Prometheus spreads its scrapes of the targets over the interval.
const INTERVAL: u32 = 5;

/// Answers each path `/body/N` with the N-th body.
fn serve(rows: &Arc<Vec<Row>>) -> Exporter {
    let rows = rows.clone();
    Exporter::start(move |conversation: &mut Conversation| {
        loop {
            let request = conversation.read_request()?;
            let path = request.split_whitespace().nth(1).unwrap_or_default();
            let index = path.strip_prefix("/body/").and_then(|index| index.parse::<usize>().ok());
            let Some(row) = index.and_then(|index| rows.get(index)) else {
                return conversation.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            };
            let (content_type, length) = (row.content_type(), row.body.len());
            conversation.send(format!(
                "HTTP/1.1 200 OK\r\n{content_type}Content-Length: {length}\r\n\r\n"
            ))?;
            conversation.send(&row.body)?;
        }
    })
}

/// One target for each body, distinguished by the label `row`, which no body uses.
fn targets(count: usize, exporter: &Exporter) -> String {
    let address = exporter.address();
    let targets: String = (0..count)
        .map(|index| {
            format!(
                "      - targets: ['{address}']\n        labels: {{__metrics_path__: /body/{index}, \
                 row: '{index}'}}\n"
            )
        })
        .collect();
    format!(
        "global:\n  scrape_interval: {INTERVAL}s\n  scrape_timeout: {INTERVAL}s\n\
         scrape_configs:\n  - job_name: bodies\n    static_configs:\n{targets}"
    )
}

/// The values of a metric, by the label `row`.
fn by_row(prometheus: &Daemon, metric: &str) -> HashMap<usize, u64> {
    let found = prometheus.api("query", &["--data-urlencode", &format!("query={metric}")]);
    let found = found["result"].as_array().cloned().unwrap_or_default();
    let pair = |it: &Value| {
        let row = it["metric"]["row"].as_str()?.parse().ok()?;
        Some((row, it["value"][1].as_str()?.parse().ok()?))
    };
    found.iter().filter_map(pair).collect()
}

/// Whether `promtool check metrics` can parse a body. It exits with 3 if it only has remarks on
/// style.
fn promtool_reads(body: &[u8]) -> bool {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("promtool runs");
    let mut input = child.stdin.take().expect("piped");
    // promtool may stop at an error before it has read all input.
    let _ = input.write_all(body);
    drop(input);
    match child.wait().expect("the child is ours").code() {
        Some(0 | 3) => true,
        Some(1) => false,
        code => panic!("promtool ends with {code:?} on {}", body.escape_ascii()),
    }
}

/// The output of `probe` for the body at `/body/INDEX`, as JSON.
fn probe(index: usize, exporters: &str) -> Value {
    let output = Command::new(binary())
        .args(["probe", &format!("body{index}"), "--json", "--exporters", exporters])
        .output()
        .expect("the binary runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn f25_prometheus_and_promtool_agree_with_the_table_on_each_body() {
    let rows = Arc::new(rows());
    let exporter = serve(&rows);
    let prometheus = Daemon::prometheus(&targets(rows.len(), &exporter));
    wait_for("all bodies", || {
        let scraped = by_row(&prometheus, "scrape_samples_scraped").len();
        if scraped == rows.len() { Ok(()) } else { Err(json!(scraped)) }
    });
    let (up, samples) = (by_row(&prometheus, "up"), by_row(&prometheus, "scrape_samples_scraped"));
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let is_up = up[&index] == 1;
        let samples = Some(samples[&index]).filter(|_| is_up);
        if (is_up, samples) != (row.up_in_2, row.samples) {
            wrong.push(format!("{}\n  Prometheus: up {is_up}, {samples:?} samples", row.place()));
        }
        if let Some(reads) = row.promtool_reads
            && reads != promtool_reads(&row.body)
        {
            wrong.push(format!("{}\n  promtool reads it: {}", row.place(), !reads));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn f25_probe_agrees_with_prometheus_and_promtool_on_each_body() {
    let rows = Arc::new(rows());
    let exporter = serve(&rows);
    let folder = tempfile::TempDir::with_prefix("scrapegate-verdicts-").expect("a folder");
    let sections: String = (0..rows.len())
        .map(|index| {
            let section = exporter.section(&format!("body{index}"));
            // With `transport`, OpenMetrics without `# EOF` is judged by its contents.
            section.replace("/metrics", &format!("/body/{index}")) + "integrity = transport\n"
        })
        .collect();
    let file = folder.path().join("exporters.ini");
    std::fs::write(&file, sections).expect("written");
    let file = file.display().to_string();
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let said = probe(index, &file);
        let answer = &said["measurement"]["answer"];
        let ups = match answer["acceptance"].as_str() {
            Some("whole" | "in_part") => (true, true),
            Some("since3") => (false, true),
            Some("refused") => (false, false),
            other => panic!("{}: {other:?} in {said}", row.place()),
        };
        let is_critical = said["state"] == "CRITICAL";
        if ups != (row.up_in_2, row.up_in_3) || is_critical == row.up_in_3 {
            wrong.push(format!("{}\n  {} {ups:?} {said}", row.place(), said["state"]));
        }
        let reads = answer["promtool"].is_null();
        if row.promtool_reads.is_some_and(|it| it != reads) && answer["acceptance"] != "in_part" {
            wrong.push(format!("{}\n  promtool: {}", row.place(), answer["promtool"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
