//! The counts that need a program beside us: valgrind for instructions, strace for system calls.

use std::{collections::BTreeMap, env, fs, net::SocketAddr, process::Command};

use tempfile::TempDir;

use crate::{
    baseline::Counts,
    scenarios::{SCENARIOS, Scenario},
    support::{
        loopback,
        message::{Framing, Message},
        scripted::{
            body::Kind,
            pki::{BOTH_VERSIONS, Pki},
            proxy::Proxy,
        },
    },
};

/// MiB of a scrape under strace.
const TRACED: usize = 64;
const TRACED_RUNS: usize = 5;

/// Calls by which bytes come from a socket, leave by one, and by which threads wake each other:
/// tokio's eventfd takes `write`, which its sockets never use.
const KINDS_OF_CALLS: [(&str, &[&str]); 4] = [
    ("socket reads per MiB", &["recvfrom", "recvmsg", "readv"]),
    ("socket writes per MiB", &["writev", "sendto", "sendmsg"]),
    ("thread wake-ups per MiB", &["futex", "write"]),
    ("epoll waits per MiB", &["epoll_wait", "epoll_pwait", "epoll_pwait2"]),
];

/// Whether a program runs here; a container may well forbid strace.
pub(crate) fn works(command: &[&str]) -> bool {
    Command::new(command[0]).args(&command[1..]).output().is_ok_and(|it| it.status.success())
}

/// The first line that a program prints about itself.
pub(crate) fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    output
        .ok()
        .and_then(|output| {
            String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
        })
        .unwrap_or_default()
}

/// Instructions of each scenario, as valgrind counts them in a child of ours.
pub(crate) fn instructions(counts: &mut Counts) {
    for scenario in SCENARIOS {
        let (few, many) = scenario.times;
        let more = under_valgrind(scenario, many).saturating_sub(under_valgrind(scenario, few));
        counts.add("instructions", scenario.name, more as f64 / (many - few) as f64);
    }
}

fn under_valgrind(scenario: Scenario, times: usize) -> u64 {
    let output = Command::new("valgrind")
        // Not its cache simulation: a cache's size is one machine's.
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(env::current_exe().expect("this program"))
        .args(["--child", scenario.name, &times.to_string()])
        .output()
        .expect("valgrind runs");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} fails under valgrind:\n{report}", scenario.name);
    report
        .lines()
        .find_map(|line| line.split_once("refs:")?.1.trim().replace(',', "").parse().ok())
        .unwrap_or_else(|| panic!("no count in:\n{report}"))
}

/// System calls of the real binary, for one large scrape over mutual TLS: of each kind the fewest
/// that a run needed.
///
/// A run needs more of them when the exporter falls behind, as it may where four threads share two
/// cores: then its socket is found empty, which costs a wait, and in each millisecond of waiting
/// for more a timer, whose setting writes to tokio's eventfd. Nothing takes a needed call away.
pub(crate) fn system_calls(counts: &mut Counts) {
    let message = Message::new(Kind::Text, Framing::Chunked(4096), TRACED << 20);
    let length = message.length;
    let exporter = loopback::exporter(message);
    let runs: Vec<_> = (0..TRACED_RUNS).map(|_| one_traced_scrape(exporter, length)).collect();
    for (kind, (name, _)) in KINDS_OF_CALLS.iter().enumerate() {
        let fewest = runs.iter().map(|run| run[kind]).min().unwrap_or_default();
        counts.add("system calls", name, fewest as f64 / TRACED as f64);
    }
}

/// How many calls of each of [`KINDS_OF_CALLS`] a proxy makes in its life, with one scrape in it.
fn one_traced_scrape(exporter: SocketAddr, length: usize) -> [u64; KINDS_OF_CALLS.len()] {
    let section = format!(
        "[n]\nenabled = True\nmethod = http\nhost = 127.0.0.1\nport = {}\npath = /metrics\n\
         interval = 300\ntimeout = 300\n",
        exporter.port()
    );
    let folder = TempDir::with_prefix("scrapegate-strace-").expect("a temporary folder");
    let summary = folder.path().join("summary");
    let strace = ["strace", "-f", "-c", "-o"].map(Into::into);
    let wrapper = [&strace[..], &[summary.clone().into()]].concat();

    let pki = Pki::new();
    let config = pki.config_ini("worker-threads = 1\n");
    let mut proxy = Proxy::start_beneath(&wrapper, &config, &section);
    let client = pki.client(&BOTH_VERSIONS[..1]);
    let mut scraper = loopback::Scraper::connect(proxy.address(), &client);
    scraper.scrape(length);
    drop(scraper);
    proxy.signal("TERM");
    proxy.wait_exit();

    let summary = fs::read_to_string(summary).expect("strace wrote its summary");
    let calls = calls_by_name(&summary);
    KINDS_OF_CALLS.map(|(_, kind)| kind.iter().filter_map(|call| calls.get(call)).sum())
}

/// Reads strace's table: `% time  seconds  usecs/call  calls  [errors]  syscall`.
fn calls_by_name(summary: &str) -> BTreeMap<&str, u64> {
    summary
        .lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (calls, name) = (columns.get(3)?, columns.last()?);
            Some((*name, calls.parse().ok()?))
        })
        .collect()
}
