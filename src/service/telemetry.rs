//! Logs to standard error: a text line or a JSON object for each record.
//!
//! The proxy never waits for the reader of its log. If the bounded queue is full, records are
//! dropped.

mod fields;
mod rate_limit;
mod writer;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    convert::Infallible,
    io::{self, IsTerminal},
};

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use self::{fields::QuotedFields, rate_limit::LogRateLimiter, writer::LogQueue};
use crate::config::LogFormat;

/// How much is logged, unless [`LEVEL_VARIABLE`] is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// One record for each scrape, start and stop, warnings and errors.
    #[default]
    Normal,
    /// `-v`: also why connections ended.
    Verbose,
    /// `-d`: also debug messages of libraries.
    Debug,
}

/// The environment variable that sets log levels, in the syntax of
/// `tracing_subscriber::EnvFilter`. It overrides `-v` and `-d`.
pub const LEVEL_VARIABLE: &str = "SCRAPEGATE_LOG";

/// The log of the process. Dropping it writes the queued records, for at most one second.
#[derive(Debug)]
pub struct Logs {
    limiter: LogRateLimiter,
    queue: LogQueue,
}

impl Logs {
    /// Number of records that were dropped because standard error was not read in time.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.queue.dropped()
    }

    /// Once a second, logs how many records were suppressed by the rate limit. Never returns.
    pub async fn report_suppressed(&self) -> Infallible {
        self.limiter.report_each_second().await
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.limiter.report();
        self.queue.flush();
    }
}

/// Starts logging for the whole process. A second call has no effect, and its result logs nothing.
///
/// # Errors
/// If the system refuses the thread that writes the records.
pub fn start(format: LogFormat, verbosity: Verbosity) -> io::Result<Logs> {
    let default = match verbosity {
        Verbosity::Normal => "info",
        Verbosity::Verbose => "info,scrapegate=debug",
        Verbosity::Debug => "debug",
    };
    let levels = std::env::var(LEVEL_VARIABLE).ok();
    let (filter, mistake) = match levels.map(EnvFilter::try_new) {
        None => (EnvFilter::new(default), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(default), Some(error.to_string())),
    };
    let logs = Logs { limiter: LogRateLimiter::default(), queue: LogQueue::start()? };
    let limited = tracing_subscriber::registry().with(filter).with(logs.limiter.clone());
    // Internal errors of the layer would go directly to standard error, which can block.
    let lines = fmt::layer().log_internal_errors(false).with_target(false);
    let lines = lines.with_writer(logs.queue.clone());
    // Fails only if a subscriber is already set.
    let _ = match format {
        LogFormat::Text => {
            let lines = lines.fmt_fields(QuotedFields).with_ansi(io::stderr().is_terminal());
            limited.with(lines).try_init()
        }
        LogFormat::Json => limited.with(lines.json().with_current_span(false)).try_init(),
    };
    if let Some(mistake) = mistake {
        tracing::warn!(mistake, "invalid {LEVEL_VARIABLE} ignored");
    }
    log_panics();
    Ok(logs)
}

/// Installs a panic hook that logs each panic, with a backtrace if `RUST_BACKTRACE` is set.
///
/// A panic on a worker ends one connection. Other connections and the process continue.
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
