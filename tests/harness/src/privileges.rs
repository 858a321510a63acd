//! Privileged ports, and processes without the privilege to use them.

use std::{fs, os::unix::fs::MetadataExt, process::Command};

/// Whether port 1 requires privileges on this host. If it does not, prints that the test is skipped.
pub fn takes_port_1() -> bool {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let is_for_all = first.is_ok_and(|first| matches!(first.trim(), "0" | "1"));
    if is_for_all {
        #[expect(
            clippy::print_stderr,
            reason = "a reader of the log must see that the test was skipped"
        )]
        {
            eprintln!("SKIPPED: no port requires privileges on this host");
        }
    }
    !is_for_all
}

/// A command that executes its arguments without the privilege to use such a port, even as root.
pub fn without_ports() -> Command {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !is_root {
        return Command::new("env");
    }
    let mut command = Command::new("setpriv");
    command.args(["--inh-caps=-net_bind_service", "--bounding-set=-net_bind_service"]);
    command
}
