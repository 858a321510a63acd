//! The machine: the time that all its cores were busy, and the properties that change ratios.

use std::{fs, thread, time::Duration};

use nix::unistd::{SysconfVar, sysconf};

use super::Result;

/// The time that all cores together spent neither idle nor waiting for a disk nor for the
/// hypervisor. Starts with the construction.
///
/// The kernel takes its counts of busy time from its timer ticks, which miss short work. It
/// measures idle time. Therefore the busy time is what idle time leaves.
#[derive(Clone, Copy, Debug)]
pub struct BusyTime {
    begun: std::time::Instant,
    not_busy: Duration,
}

impl BusyTime {
    /// Begins to measure.
    ///
    /// # Errors
    ///
    /// Fails if `/proc/stat` is not as proc(5) describes it.
    pub fn start() -> Result<Self> {
        Ok(Self { not_busy: not_busy()?, begun: std::time::Instant::now() })
    }

    /// The busy time since the start, of all cores and all programs. The resolution is 10 ms.
    ///
    /// # Errors
    ///
    /// Fails if `/proc/stat` is not as proc(5) describes it.
    pub fn elapsed(&self) -> Result<Duration> {
        let wall = self.begun.elapsed();
        let cores = u32::try_from(thread::available_parallelism()?.get())?;
        Ok((wall * cores).saturating_sub(not_busy()?.saturating_sub(self.not_busy)))
    }
}

/// The sum of the columns `idle`, `iowait` and `steal`.
fn not_busy() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu "));
    let columns = line
        .ok_or("/proc/stat has no line for all cores")?
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<u64>, _>>()?;
    let &[_user, _nice, _system, idle, iowait, _irq, _softirq, steal, ..] = columns.as_slice()
    else {
        return Err("/proc/stat has too few columns".into());
    };
    let per_second = sysconf(SysconfVar::CLK_TCK)?.ok_or("the clock has no tick")?;
    Ok(Duration::from_secs_f64((idle + iowait + steal) as f64 / per_second as f64))
}

/// One line about the processor and the kernel.
pub fn description() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model =
        cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let vector_aes = if cpu_info.contains(" vaes") { "with" } else { "without" };
    format!(
        "{cores} cores, {}, {vector_aes} VAES; Linux {}",
        model.unwrap_or("unknown processor"),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}
