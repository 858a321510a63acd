//! File descriptors: enough for every connection that is let in, the exporter's side included.
//!
//! What is accepted can be served then: a scrape finds a descriptor for its exporter also when all
//! of `max-connections` are there. Connections beyond them wait in the backlog and take none.

use std::num::NonZeroU32;

/// For a connection: the scraper's socket and the exporter's.
const EACH_CONNECTION: u64 = 2;

/// For a worker: what its runtime waits with.
const EACH_WORKER: u64 = 4;

/// For everything else: a dozen that are always open, and files that are read and names that are
/// looked up meanwhile.
const OTHERS: u64 = 32;

/// Raises the limit on open files as far as this process may, and gives the number of connections
/// that there are descriptors for, `wanted` at most.
///
/// Logs when that is fewer.
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
            "the limit on open files is too low for max-connections, which is lowered"
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

/// The limit on open files once it is as high as this process may set it; `None` where there is
/// none to ask for.
#[cfg(target_os = "linux")]
fn raised_limit() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    // Some sandboxes forbid it: then it stays as it is.
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
    fn each_connection_has_two_and_there_is_always_room_for_one() {
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
