//! The processes of a proxy: start, measurements, end.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    time::clock_getcpuclockid,
    unistd::Pid,
};

use super::Result;

/// All processes of one proxy, which form a process group. Dropping this kills them.
pub struct Processes {
    leader: Child,
    group: Pid,
    /// Time from the start to the first accepted connection.
    pub started_in: Duration,
}

impl Processes {
    /// Starts `command` and waits until it accepts connections at `address`.
    pub fn start(mut command: Command, address: SocketAddr, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        let begun = Instant::now();
        let leader = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        let group = Pid::from_raw(i32::try_from(leader.id()).expect("a process id"));
        let mut processes = Self { leader, group, started_in: Duration::ZERO };
        while TcpStream::connect(address).is_err() {
            let ended = processes.leader.try_wait()?.is_some();
            if ended || begun.elapsed() > Duration::from_secs(10) {
                let log = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("{command:?} does not listen: {log}").into());
            }
            thread::sleep(Duration::from_micros(200));
        }
        processes.started_in = begun.elapsed();
        Ok(processes)
    }

    /// CPU time of all processes, user and system, including ended threads.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for pid in self.pids()? {
            sum += Duration::from(clock_getcpuclockid(pid)?.now()?);
        }
        Ok(sum)
    }

    /// Sum of the peak resident memory of all processes, in bytes. Shared pages are counted once
    /// for each process.
    ///
    /// # Errors
    ///
    /// Fails if a process has ended.
    pub fn peak_memory(&self) -> Result<u64> {
        self.sum_of("VmHWM:")
    }

    /// Sum of the resident memory of all processes, in bytes. Shared pages are counted once for
    /// each process.
    ///
    /// # Errors
    ///
    /// Fails if a process has ended.
    pub fn memory(&self) -> Result<u64> {
        self.sum_of("VmRSS:")
    }

    /// Lets [`Processes::peak_memory`] begin again with the present memory (proc(5), `clear_refs`).
    ///
    /// # Errors
    ///
    /// Fails if a process has ended.
    pub fn forget_peak_memory(&self) -> Result<()> {
        for pid in self.pids()? {
            fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        }
        Ok(())
    }

    fn sum_of(&self, field: &str) -> Result<u64> {
        let mut sum = 0;
        for pid in self.pids()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let kilobytes = status
                .lines()
                .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"))
                .ok_or_else(|| format!("a process without {field}"))?;
            sum += kilobytes.trim().parse::<u64>()? * 1024;
        }
        Ok(sum)
    }

    fn pids(&self) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            // A process that has ended meanwhile does not belong to this group, whose processes
            // live longer.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
                continue;
            };
            // The format is `pid (name) state ppid pgrp …`. The name may contain any characters.
            let after_name = stat.rsplit(')').next().unwrap_or_default();
            let group = after_name.split_whitespace().nth(2).and_then(|group| group.parse().ok());
            if group == Some(self.group.as_raw()) {
                pids.push(Pid::from_raw(pid));
            }
        }
        Ok(pids)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // Fails if the processes have already ended.
        let _ = killpg(self.group, Signal::SIGKILL);
        let _ = self.leader.wait();
    }
}
