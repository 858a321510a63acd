//! Logs: to standard error, a line for people or a JSON object for machines.
//!
//! Nothing waits for whoever reads them. What does not fit into a bounded queue is dropped.

mod fields;
mod floods;
mod writer;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    convert::Infallible,
    io::{self, IsTerminal},
};

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use self::{fields::QuotedFields, floods::Floods, writer::LogQueue};
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

/// The logs of the process. Dropping them writes what is still queued, for a second at most.
#[derive(Debug)]
pub struct Logs {
    floods: Floods,
    queue: LogQueue,
}

impl Logs {
    /// How many records were dropped because nobody read standard error in time.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.queue.dropped()
    }

    /// Logs once a second how many records of floods were suppressed.
    pub async fn report_floods(&self) -> Infallible {
        self.floods.report_each_second().await
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.floods.report();
        self.queue.flush();
    }
}

/// Starts logging for the whole process. A second call changes nothing, and what it returns logs
/// nothing.
///
/// # Errors
/// The system refuses the thread that writes the records.
pub fn start(format: LogFormat, verbosity: Verbosity) -> io::Result<Logs> {
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
    let logs = Logs { floods: Floods::default(), queue: LogQueue::start()? };
    let limited = tracing_subscriber::registry().with(filter).with(logs.floods.clone());
    // Its own errors would go to standard error, and wait for whoever reads it.
    let lines = fmt::layer().log_internal_errors(false).with_target(false);
    let lines = lines.with_writer(logs.queue.clone());
    // Fails only when a subscriber is set already.
    let _ = match format {
        LogFormat::Text => {
            let lines = lines.fmt_fields(QuotedFields).with_ansi(io::stderr().is_terminal());
            limited.with(lines).try_init()
        }
        LogFormat::Json => limited.with(lines.json().with_current_span(false)).try_init(),
    };
    if let Some(mistake) = mistake {
        tracing::warn!(mistake, "{LEVEL_VARIABLE} is ignored");
    }
    log_panics();
    Ok(logs)
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
