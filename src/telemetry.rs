//! Logs: to standard error, a line for people or a JSON object for machines.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

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
pub fn start(format: LogFormat, verbosity: Verbosity) {
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
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Fails only when a subscriber is set already.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => builder.json().with_current_span(false).finish().try_init(),
    };
    if let Some(mistake) = mistake {
        tracing::warn!(mistake, "{LEVEL_VARIABLE} is ignored");
    }
}
