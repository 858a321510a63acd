//! Counts the system calls of the real binary with strace.

use std::{collections::BTreeMap, fs};

use tempfile::TempDir;

use crate::proxy::Proxy;

/// Starts the proxy under strace, calls `scrape`, and stops the proxy. Returns the number of system
/// calls from its start to its end, by name.
pub fn system_calls(
    config_ini: &str,
    exporters_ini: &str,
    scrape: impl FnOnce(&Proxy),
) -> BTreeMap<String, u64> {
    let folder = TempDir::with_prefix("scrapegate-strace-").expect("a temporary folder");
    let summary = folder.path().join("summary");
    let strace = ["strace", "-f", "-c", "-o"].map(Into::into);
    let wrapper = [&strace[..], &[summary.clone().into()]].concat();
    let mut proxy = Proxy::start_beneath(&wrapper, config_ini, exporters_ini);
    scrape(&proxy);
    proxy.signal("TERM");
    proxy.wait_exit();
    let summary = fs::read_to_string(summary).expect("strace wrote its summary");
    calls_by_name(&summary)
}

/// Reads strace's table: `% time  seconds  usecs/call  calls  [errors]  syscall`.
fn calls_by_name(summary: &str) -> BTreeMap<String, u64> {
    summary
        .lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (calls, name) = (columns.get(3)?, columns.last()?);
            Some(((*name).to_owned(), calls.parse().ok()?))
        })
        .collect()
}
