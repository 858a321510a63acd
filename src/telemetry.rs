//! Logs: to standard error, a line for people or a JSON object for machines.

mod floods;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::IsTerminal,
};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

pub use self::floods::Floods;
use crate::config::LogFormat;

/// How much is logged unless the environment says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// One record per scrape, start and stop, warnings.
    #[default]
    Normal,
    /// `-v`: also why connections ended.
    Verbose,
    /// `-d`: also what the libraries say.
    Debug,
}

/// The environment variable that sets levels, in `tracing_subscriber::EnvFilter` syntax; it wins
/// over `-v` and `-d`.
pub const LEVEL_VARIABLE: &str = "SCRAPEGATE_LOG";

/// Starts logging for the whole process. Does nothing when it was started before.
///
/// What comes back knows which records were left out, for the caller to have them reported.
pub fn start(format: LogFormat, verbosity: Verbosity) -> Floods {
    let default = match verbosity {
        Verbosity::Normal => "info",
        Verbosity::Verbose => "info,scrapegate=debug",
        Verbosity::Debug => "debug",
    };
    let wanted = std::env::var(LEVEL_VARIABLE).ok();
    let (filter, mistake) = match wanted.map(EnvFilter::try_new) {
        None => (EnvFilter::new(default), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(default), Some(error.to_string())),
    };
    let floods = Floods::default();
    let limited = tracing_subscriber::registry().with(filter).with(floods.clone());
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    // Fails only when a subscriber is set already.
    let _ = match format {
        LogFormat::Text => {
            limited.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init()
        }
        LogFormat::Json => limited.with(lines.json().with_current_span(false)).try_init(),
    };
    if let Some(mistake) = mistake {
        tracing::warn!(mistake, "{LEVEL_VARIABLE} is ignored");
    }
    log_panics();
    floods
}

/// From now on a panic is a record like any other, with its backtrace if `RUST_BACKTRACE` asks for
/// one.
///
/// What panics on a worker is one connection, which ends; the others and the process go on.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let cause = payload.downcast_ref::<&str>().copied();
        let cause = cause.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let backtrace = Backtrace::capture();
        let is_captured = backtrace.status() == BacktraceStatus::Captured;
        tracing::error!(
            at = panic.location().map(ToString::to_string),
            cause,
            backtrace = is_captured.then(|| backtrace.to_string()),
            "panicked"
        );
    }));
}
