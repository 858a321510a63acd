//! The files read again: when someone asks, and when they hold something else than they did.

use std::{
    convert::Infallible,
    future::pending,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::{Instant, Interval, interval_at, sleep, timeout};

pub use crate::trigger::{Outcome, Status};
use crate::{
    assets::{self, Assets, CertificateFile},
    blocking::{BlockingError, Threads},
    config::{self, Config, Findings, Severity, Sources},
    exporter::ExporterName,
    file::{Files, Progress},
    scrape::Chain,
    server::{Handle, ReloadError, Reloaded},
    systemd::Notifier,
};

/// What one reading of all files gave.
#[derive(Debug)]
pub struct Loaded {
    /// Both files and all they name; absent when one finding is an error.
    pub state: Option<(Config, Assets)>,
    /// Everything that is wrong with them.
    pub findings: Findings,
    /// What was read.
    pub files: Files,
}

/// Reads both files and all they name.
#[must_use]
pub fn load(sources: &Sources) -> Loaded {
    load_into(Files::default(), sources)
}

fn load_into(mut files: Files, sources: &Sources) -> Loaded {
    let (config, mut findings) = config::survey(sources, &mut files);
    let state = config.and_then(|config| {
        let (assets, more) = assets::load(&config, &mut files);
        findings.extend(more);
        assets.map(|assets| (config, assets))
    });
    Loaded { state: state.filter(|_| !findings.has_errors()), findings, files }
}

/// How long a reload or a file check may take. A file on a dead network file system is never read.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// Reloads that may hang before the next one has to wait: each keeps its thread.
const READINGS: usize = 4;

/// How the files are read. Tests replace it with one that hangs.
trait Read: std::fmt::Debug + Send + Sync {
    /// Reads all of them.
    fn load(&self, files: Files, sources: &Sources) -> Loaded;

    /// Reads those that were read before, as they are now.
    fn again(&self, files: &Files, progress: Progress) -> Files;
}

#[derive(Debug)]
struct FileSystem;

impl Read for FileSystem {
    fn load(&self, files: Files, sources: &Sources) -> Loaded {
        load_into(files, sources)
    }

    fn again(&self, files: &Files, progress: Progress) -> Files {
        files.again(progress)
    }
}

fn reload_threads() -> Threads {
    Threads::new("reload", READINGS)
}

/// One file check at a time: one that hangs stays the only one until the configuration no longer
/// names the file.
fn check_threads() -> Threads {
    Threads::new("file check", 1)
}

/// Keeps a running server at what the files say.
///
/// It waits on the server's [`Trigger`](crate::trigger::Trigger), and looks at the files every
/// `reload-interval`. A state that was refused is not tried again by itself until a file changes;
/// files that could not be read are.
#[derive(Debug)]
pub struct Reloader {
    handle: Handle,
    notifier: Notifier,
    sources: Sources,
    /// What the process was started with, and what it keeps of it.
    started: Config,
    /// What is in use.
    current: Config,
    /// As they were when they were last read, whatever came of it.
    files: Files,
    /// What is in use of certificates and revocation lists.
    certificates: Vec<CertificateFile>,
    /// Whether what was refused last may be right later without a change of any file.
    heals_with_time: bool,
    reader: Arc<dyn Read>,
    read_limit: Duration,
    reloads: Threads,
    checks: Threads,
    /// The last reload did not read them.
    is_due: bool,
    /// It was logged that they cannot be checked.
    is_blind: bool,
    /// The file that hung last. Who waits for the thread that hangs there cannot name it.
    hung: Option<PathBuf>,
}

/// What a look at the files gave.
struct Seen {
    files: Files,
    /// What was refused is right now, without a change of any file: a certificate was not valid yet.
    has_healed: bool,
}

/// Why files were not read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Blocking(#[from] BlockingError),
    #[error("reading {} took longer than {} s", shown(.file.as_deref()), .limit.as_secs())]
    TimedOut {
        /// The one that hangs, if it is known.
        file: Option<PathBuf>,
        limit: Duration,
    },
}

fn shown(file: Option<&Path>) -> String {
    file.map_or_else(|| "the files".to_owned(), |file| file.display().to_string())
}

/// Why a state was not taken over.
enum Failure {
    /// The files have mistakes, which are logged.
    Mistakes,
    Unread(Unread),
    Reload(ReloadError),
}

/// How often certificates that are out of their time, or soon will be, are warned about.
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Reloader {
    /// For a server that was started with `current` and `certificates`, read from `files`.
    #[must_use]
    pub fn new(
        notifier: Notifier,
        handle: Handle,
        sources: Sources,
        current: Config,
        files: Files,
        certificates: Vec<CertificateFile>,
    ) -> Self {
        Self {
            handle,
            notifier,
            sources,
            started: current.clone(),
            current,
            files,
            certificates,
            heals_with_time: false,
            reader: Arc::new(FileSystem),
            read_limit: READ_LIMIT,
            reloads: reload_threads(),
            checks: check_threads(),
            is_due: false,
            is_blind: false,
            hung: None,
        }
    }

    /// Reloads whenever there is reason to, until the server shuts down; who asks later is told so.
    /// Dropped, it leaves the server as it is; a reload that has begun is then not told of.
    pub async fn run(mut self) -> Infallible {
        let trigger = self.handle.trigger();
        let mut days = each_day();
        loop {
            let is_due = tokio::select! {
                () = trigger.pulled() => true,
                _ = days.tick() => {
                    warn_of(&self.certificates, OffsetDateTime::now_utc());
                    false
                }
                look = self.look() => self.has_seen(look),
            };
            if !is_due {
                continue;
            }
            let round = trigger.begin();
            let outcome = self.reload().await;
            trigger.end(round, outcome);
            // Of a shutdown, systemd has been told.
            if outcome != Outcome::ShuttingDown {
                self.notifier.ready();
            }
        }
    }

    /// Looks at the files once the interval is over. Never in the shutdown.
    async fn look(&self) -> Result<Seen, Unread> {
        sleep(self.current.reload_interval.as_duration()).await;
        if !self.handle.is_serving() {
            return pending().await;
        }
        let (files, progress) = (self.files.clone(), Progress::default());
        let (again, heals_with_time) = (progress.clone(), self.heals_with_time);
        let (sources, reader) = (self.sources.clone(), Arc::clone(&self.reader));
        let look = self.checks.run(move || {
            let has_healed = || {
                let files = Files::with_progress(again.clone());
                reader.load(files, &sources).state.is_some()
            };
            let has_healed = heals_with_time && has_healed();
            Seen { has_healed, files: reader.again(&files, again) }
        });
        self.within_limit(look, &progress).await
    }

    /// Waits for `reading` for as long as a reading may take.
    async fn within_limit<T>(
        &self,
        reading: impl Future<Output = Result<T, BlockingError>>,
        progress: &Progress,
    ) -> Result<T, Unread> {
        match timeout(self.read_limit, reading).await {
            Ok(read) => Ok(read?),
            Err(_) => Err(Unread::TimedOut {
                file: progress.reading().or_else(|| self.hung.clone()),
                limit: self.read_limit,
            }),
        }
    }

    /// Keeps the name of a file that hangs.
    fn remember(&mut self, error: &Unread) {
        if let Unread::TimedOut { file: Some(file), .. } = error {
            self.hung = Some(file.clone());
        }
    }

    /// Whether there is reason to reload. Logs only the first of looks that fail.
    fn has_seen(&mut self, look: Result<Seen, Unread>) -> bool {
        match look {
            Ok(Seen { has_healed, files: now }) => {
                self.hung = None;
                if std::mem::take(&mut self.is_blind) {
                    tracing::info!("checking the files for changes again");
                }
                let changed = now != self.files;
                if changed {
                    tracing::info!("files have changed");
                    // A reload that gets as far as reading them has its own view.
                    self.files = now;
                }
                changed || has_healed || self.is_due
            }
            Err(error) => {
                self.remember(&error);
                if !std::mem::replace(&mut self.is_blind, true) {
                    let error = Chain(&error);
                    tracing::error!(%error, "cannot check the files for changes; will retry");
                }
                false
            }
        }
    }

    /// Goes on with what is in the files now, or says why not.
    async fn reload(&mut self) -> Outcome {
        // Nobody accepts on a new address any more, and systemd has been told of the end.
        if !self.handle.is_serving() {
            tracing::info!("no reload: shutting down");
            return Outcome::ShuttingDown;
        }
        self.notifier.reloading();
        let read = tokio::select! {
            biased;
            () = self.handle.drain_begins() => Err(Failure::Reload(ReloadError::ShuttingDown)),
            read = self.read() => read.map_err(Failure::Unread),
        };
        let taken_over = match read {
            Ok(loaded) => self.take_over(loaded).await,
            Err(failure) => Err(failure),
        };
        let (outcome, error) = match taken_over {
            Ok(()) => return Outcome::Applied,
            Err(Failure::Reload(ReloadError::ShuttingDown)) => {
                tracing::info!("reload canceled: shutting down");
                return Outcome::ShuttingDown;
            }
            Err(Failure::Mistakes) => (Outcome::Rejected, None),
            Err(Failure::Reload(error)) => (Outcome::Rejected, Some(Chain(&error).to_string())),
            Err(Failure::Unread(error)) => {
                self.is_due = true;
                self.remember(&error);
                let outcome = match &error {
                    Unread::Blocking(BlockingError::NoThread { .. }) => Outcome::NoResources,
                    Unread::Blocking(BlockingError::Panicked { .. }) | Unread::TimedOut { .. } => {
                        Outcome::Rejected
                    }
                };
                (outcome, Some(Chain(&error).to_string()))
            }
        };
        self.handle.metrics().reload_failed();
        tracing::error!(error, "reload failed; keeping the current configuration");
        outcome
    }

    async fn read(&self) -> Result<Loaded, Unread> {
        let (sources, progress) = (self.sources.clone(), Progress::default());
        let (files, reader) = (Files::with_progress(progress.clone()), Arc::clone(&self.reader));
        let reading = self.reloads.run(move || reader.load(files, &sources));
        self.within_limit(reading, &progress).await
    }

    async fn take_over(&mut self, loaded: Loaded) -> Result<(), Failure> {
        let Loaded { state, findings, files } = loaded;
        self.files = files;
        self.is_due = false;
        // All of them were read, so a thread that still hangs is at a file that they no longer name.
        // It must not keep anybody waiting.
        (self.reloads, self.checks) = (reload_threads(), check_threads());
        self.is_blind = false;
        self.hung = None;
        self.heals_with_time = findings.heal_with_time();
        for finding in findings.iter() {
            match finding.severity {
                Severity::NotYet | Severity::Error => {
                    tracing::error!(at = %finding.origin, "{}", finding.message)
                }
                Severity::Warning => tracing::warn!(at = %finding.origin, "{}", finding.message),
            }
        }
        let (config, assets) = state.ok_or(Failure::Mistakes)?;
        let first_expiry = first_expiry(&assets);
        let certificates = assets.validities();
        let Reloaded { new_address, dismissed } =
            self.handle.reload(&config, assets).await.map_err(Failure::Reload)?;
        for key in needs_restart(&self.started, &config) {
            tracing::warn!(key, "changing this key requires a restart");
        }
        if self.handle.was_given_its_socket() && self.started.listen != config.listen {
            tracing::warn!(
                address = %config.listen,
                "the new address is ignored: the service manager passed the listening socket"
            );
        }
        if let Some(address) = new_address {
            tracing::info!(%address, "listening");
        }
        tracing::info!(
            exporters = self.handle.exporters(),
            added = names(&config, |name| !serves(&self.current, name)),
            removed = names(&self.current, |name| !serves(&config, name)),
            dismissed,
            first_certificate_expires = first_expiry,
            "reloaded"
        );
        self.current = config;
        self.certificates = certificates;
        Ok(())
    }
}

/// A tick each day, the first one a day from now.
fn each_day() -> Interval {
    interval_at(Instant::now() + DAY, DAY)
}

/// Warns of what is out of its time, or soon will be.
fn warn_of(certificates: &[CertificateFile], now: OffsetDateTime) {
    for file in certificates {
        if let Some(complaint) = file.complaint(now) {
            tracing::warn!(file = %file.path.display(), "{complaint}");
        }
    }
}

/// The names of the enabled exporters that are `wanted`, in file order; absent when there is none.
pub(crate) fn names(config: &Config, wanted: impl Fn(&ExporterName) -> bool) -> Option<String> {
    let enabled = config.exporters.iter().filter(|exporter| exporter.enabled);
    let names: Vec<&str> = enabled
        .map(|exporter| &exporter.name.value)
        .filter(|name| wanted(name))
        .map(ExporterName::as_str)
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn serves(config: &Config, name: &ExporterName) -> bool {
    config.exporters.iter().any(|exporter| exporter.enabled && exporter.name.value == *name)
}

/// The day on which the first certificate expires.
pub(crate) fn first_expiry(assets: &Assets) -> Option<String> {
    let first = assets.certificates.iter().map(|file| file.expires).min();
    first.map(|expires| expires.date().to_string())
}

/// Keys that are looked at when the process starts, and are others now than they were then.
fn needs_restart(started: &Config, now: &Config) -> Vec<&'static str> {
    let (old, new) = (&started.limits, &now.limits);
    [
        ("worker-threads", started.worker_threads != now.worker_threads),
        ("log-format", started.log_format != now.log_format),
        ("max-connections", old.max_connections != new.max_connections),
        ("max-connections-per-ip", old.max_connections_per_ip != new.max_connections_per_ip),
        ("max-handshakes", old.max_handshakes != new.max_handshakes),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}

#[cfg(test)]
mod tests;
