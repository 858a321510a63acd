//! The standard `process_*` metrics.

/// Numbers about this process. A number is `None` if the system does not report it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    /// User and system CPU time.
    pub(super) cpu_seconds: Option<f64>,
    pub(super) open_fds: Option<u64>,
    /// The soft limit; `None` if there is no limit.
    pub(super) max_fds: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    /// Unix time, in seconds.
    pub(super) start_seconds: Option<f64>,
}

impl Process {
    /// Reads `/proc/self`.
    #[cfg(target_os = "linux")]
    pub(super) fn now() -> Self {
        use procfs::{WithCurrentSystemInfo, process::LimitValue};

        let Ok(myself) = procfs::process::Process::myself() else {
            return Self::default();
        };
        let stat = myself.stat().ok();
        // Exact up to 2^53 ticks, which is millions of years.
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        let booted = procfs::boot_time_secs().ok();
        Self {
            cpu_seconds: stat.as_ref().map(|stat| seconds(stat.utime + stat.stime)),
            // Lossless, because this is a count of files.
            open_fds: myself.fd_count().ok().map(|count| count as u64),
            max_fds: myself.limits().ok().and_then(|limits| {
                match limits.max_open_files.soft_limit {
                    LimitValue::Value(most) => Some(most),
                    LimitValue::Unlimited => None,
                }
            }),
            resident_bytes: stat.as_ref().map(|stat| stat.rss_bytes().get()),
            virtual_bytes: stat.as_ref().map(|stat| stat.vsize),
            start_seconds: stat
                .as_ref()
                .zip(booted)
                .map(|(stat, booted)| booted as f64 + seconds(stat.starttime)),
        }
    }

    /// Other systems than Linux have no `/proc/self`.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn now() -> Self {
        Self::default()
    }
}
