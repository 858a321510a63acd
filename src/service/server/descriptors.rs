//! File descriptors: enough for every accepted connection, including its connection to an exporter.
//!
//! Every accepted connection can therefore be served: a scrape finds a descriptor for its exporter
//! even at `max-connections`. Further connections wait in the backlog and use no descriptor.

use std::num::NonZeroU32;

/// Descriptors for each connection: the socket of the scraper and the socket of the exporter.
const EACH_CONNECTION: u64 = 2;

/// Descriptors for each worker: its runtime's epoll instance and waker.
const EACH_WORKER: u64 = 4;

/// Descriptors for everything else: a dozen that are always open, and temporary ones for reading
/// files and looking up names.
const OTHERS: u64 = 32;

/// Raises the limit on open files as far as this process may. Returns how many connections the
/// limit allows, at most `wanted`.
///
/// Logs a warning if that is fewer than `wanted`.
pub(super) fn affordable(wanted: NonZeroU32, workers: usize) -> NonZeroU32 {
    let Some(limit) = raised_limit() else {
        return wanted;
    };
    let connections = connections_within(limit, workers).min(wanted);
    if connections < wanted {
        tracing::warn!(
            max_connections = wanted.get(),
            open_files_limit = limit,
            lowered_to = connections.get(),
            "lowering max-connections: the limit on open files is too low"
        );
    }
    connections
}

fn connections_within(limit: u64, workers: usize) -> NonZeroU32 {
    let workers = u64::try_from(workers).unwrap_or(u64::MAX);
    let left = limit.saturating_sub(OTHERS.saturating_add(workers.saturating_mul(EACH_WORKER)));
    let connections = u32::try_from(left / EACH_CONNECTION).unwrap_or(u32::MAX);
    NonZeroU32::new(connections).unwrap_or(NonZeroU32::MIN)
}

/// The limit on open files, raised as high as this process may set it. `None` if the system reports
/// no limit.
#[cfg(target_os = "linux")]
fn raised_limit() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    // Some sandboxes forbid raising the limit. The current limit then applies.
    let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    Some(if raised { hard } else { soft })
}

#[cfg(not(target_os = "linux"))]
fn raised_limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_gets_two_descriptors_and_one_connection_is_always_allowed() {
        for (limit, workers, connections) in [
            (1024, 2, 492),
            (64, 1, 14),
            (40, 2, 1),
            (0, 1, 1),
            (u64::MAX, 1, u32::MAX),
            (1024, usize::MAX, 1),
        ] {
            assert_eq!(connections_within(limit, workers).get(), connections, "{limit} {workers}");
        }
    }
}
