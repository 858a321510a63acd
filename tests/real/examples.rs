//! The examples in the documents, checked by the programs that read them: promtool and
//! systemd-analyze. `tests/examples` checks the examples that need neither.

use std::{fs, process::Command};

use scrapegate_harness::{
    documents::{Block, blocks, root},
    proxy::binary,
};
use tempfile::TempDir;

fn of_language(language: &str) -> Vec<Block> {
    let found: Vec<_> = blocks().into_iter().filter(|block| block.language == language).collect();
    assert!(!found.is_empty(), "no {language}");
    found
}

#[track_caller]
fn assert_accepts(place: impl std::fmt::Display, command: &mut Command) {
    let output = command.output().expect("a running process");
    assert!(output.status.success() && output.stderr.is_empty(), "{place}: {output:?}");
}

/// Writes the text to a file.
fn file(name: &str, text: &str) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, text).expect("written");
    (folder, path)
}

#[test]
fn promtool_accepts_every_prometheus_configuration_in_the_documents() {
    for block in of_language("yaml") {
        let text = if block.text.contains("scrape_configs:") {
            block.text.clone()
        } else {
            // The block is a part of a job.
            let indented = block.text.lines().map(|line| format!("    {line}\n"));
            format!("scrape_configs:\n  - job_name: x\n{}", indented.collect::<String>())
        };
        // The certificates exist only on the reader's host.
        let (_folder, path) = file("prometheus.yml", &text);
        let arguments = ["check", "config", "--syntax-only"];
        assert_accepts(&block, Command::new("promtool").args(arguments).arg(path));
    }
}

#[test]
fn promtool_parses_every_query_in_the_documents() {
    for block in of_language("promql") {
        let expression: String =
            block.text.lines().map(|line| format!("          {line}\n")).collect();
        let rules = format!(
            "groups:\n  - name: x\n    rules:\n      - record: x\n        expr: |\n{expression}"
        );
        let (_folder, path) = file("rules.yml", &rules);
        assert_accepts(&block, Command::new("promtool").args(["check", "rules"]).arg(path));
    }
}

/// A block with some lines of a unit is inserted into the complete unit, as the text says.
#[test]
fn systemd_analyze_accepts_the_units_in_the_documents() {
    let whole = fs::read_to_string(root().join("packaging/examples/scrapegate.service"));
    let whole = whole.expect("a unit");
    for block in of_language("systemd") {
        let service = if block.text.contains("[Service]") {
            block.text.clone()
        } else if block.text.contains("[Socket]") {
            whole.clone()
        } else {
            let starts = |line: &str| line.starts_with("ExecStart=");
            let is_replaced = block.text.lines().any(starts);
            let rest: Vec<&str> =
                whole.lines().filter(|line| !(is_replaced && starts(line))).collect();
            rest.join("\n").replace("[Service]\n", &format!("[Service]\n{}", block.text))
        };
        // The programs exist only on the reader's host.
        let program = binary().display().to_string();
        let service = service.replace("/usr/local/bin/scrapegate", &program);
        let (folder, path) = file("scrapegate.service", &service);
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no"]).arg(path);
        if block.text.contains("[Socket]") {
            let socket = folder.path().join("scrapegate.socket");
            fs::write(&socket, &block.text).expect("written");
            verify.arg(socket);
        }
        assert_accepts(&block, &mut verify);
    }
}
