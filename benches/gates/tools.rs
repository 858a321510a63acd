//! Counts that need another program: valgrind for instructions, strace for system calls.

use std::{collections::BTreeMap, env, net::SocketAddr, process::Command, time::Duration};

use scrapegate_harness::{
    body::Kind,
    loopback,
    message::{Framing, Message},
    pki::{BOTH_VERSIONS, Pki},
    strace,
};

use crate::{
    baseline::Counts,
    scenarios::{SCENARIOS, Scenario},
};

/// Size of the scrape under strace, in MiB.
const TRACED: usize = 64;
const TRACED_RUNS: usize = 3;

/// The exporter never pauses. Shows how many bytes one call transfers.
const FAST: Duration = Duration::ZERO;
/// The exporter pauses after each 64 KiB, longer than the proxy waits for more bytes. Shows the
/// cost of wake-ups.
const PAUSING: Duration = Duration::from_millis(3);

/// A group of system calls, and the pauses of the exporter with which they are counted.
struct Calls {
    name: &'static str,
    names: &'static [&'static str],
    pause: Duration,
}

/// System calls that read from a socket, write to a socket, and wake threads. `write` wakes a thread
/// through its eventfd. Sockets of a scrape do not use it.
const CALLS: [Calls; 4] = [
    Calls { name: "socket reads per MiB", names: &["recvfrom", "recvmsg", "readv"], pause: FAST },
    Calls { name: "socket writes per MiB", names: &["writev", "sendto", "sendmsg"], pause: FAST },
    Calls {
        name: "thread wake-ups per MiB in bursts of 64 KiB",
        names: &["futex", "write"],
        pause: PAUSING,
    },
    Calls {
        name: "epoll waits per MiB in bursts of 64 KiB",
        names: &["epoll_wait", "epoll_pwait", "epoll_pwait2"],
        pause: PAUSING,
    },
];

/// Whether a program works here. A container may forbid strace.
pub(crate) fn works(command: &[&str]) -> bool {
    Command::new(command[0]).args(&command[1..]).output().is_ok_and(|it| it.status.success())
}

/// The first line of a program's version.
pub(crate) fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    output
        .ok()
        .and_then(|output| {
            String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
        })
        .unwrap_or_default()
}

/// Counts the instructions of each scenario, with valgrind in a child process.
pub(crate) fn instructions(counts: &mut Counts) {
    for scenario in SCENARIOS {
        let (few, many) = scenario.times;
        let more = under_valgrind(scenario, many).saturating_sub(under_valgrind(scenario, few));
        counts.add("instructions", scenario.name, more as f64 / (many - few) as f64);
    }
}

fn under_valgrind(scenario: Scenario, times: usize) -> u64 {
    let output = Command::new("valgrind")
        // Without cache simulation, because cache sizes differ between machines.
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

/// Counts the system calls of the real binary for one large scrape over mutual TLS. Uses the lowest
/// count of several runs, because a busy machine adds calls.
pub(crate) fn system_calls(counts: &mut Counts) {
    for pause in [FAST, PAUSING] {
        let message = Message::new(Kind::Text, Framing::Chunked(4096), TRACED << 20);
        let length = message.length;
        let exporter = loopback::exporter(message, pause);
        let runs: Vec<_> = (0..TRACED_RUNS).map(|_| traced_scrape(exporter, length)).collect();
        for calls in CALLS.iter().filter(|calls| calls.pause == pause) {
            let sum = |run: &BTreeMap<String, u64>| -> u64 {
                calls.names.iter().filter_map(|&name| run.get(name)).sum()
            };
            let fewest = runs.iter().map(sum).min().unwrap_or_default();
            counts.add("system calls", calls.name, fewest as f64 / TRACED as f64);
        }
    }
}

/// The system calls of a proxy, by name, from its start to its end with one scrape.
fn traced_scrape(exporter: SocketAddr, length: usize) -> BTreeMap<String, u64> {
    let section = format!(
        "[n]\nenabled = True\nmethod = http\nhost = 127.0.0.1\nport = {}\npath = /metrics\n\
         interval = 300\ntimeout = 300\n",
        exporter.port()
    );
    let pki = Pki::new();
    let config = pki.config_ini("worker-threads = 1\n");
    strace::system_calls(&config, &section, |proxy| {
        let client = pki.client(&BOTH_VERSIONS[..1]);
        loopback::Scraper::connect(proxy.address(), &client).scrape(length);
    })
}
