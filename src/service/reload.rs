//! Reloads the configuration: on request, and when a file has changed.

use std::{
    convert::Infallible,
    future::pending,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::{Instant, Interval, interval_at, sleep, timeout};

use crate::{
    common::{
        blocking::{BlockingError, Threads},
        error::Chain,
        exporter::ExporterName,
        file::{FileSet, Progress},
        reload::ReloadOutcome,
    },
    config::{self, Config, Diagnostics, Severity, Sources},
    service::{
        assets::{self, Assets, CertificateFile},
        server::{Handle, ReloadError, Reloaded},
        supervisor::systemd::Notifier,
    },
};

/// The result of reading all files.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration and all files that it names; `None` if a diagnostic is an error.
    pub state: Option<(Config, Assets)>,
    /// All diagnostics, in the order of the files.
    pub diagnostics: Diagnostics,
    /// The files that were read, with their digests.
    pub files: FileSet,
}

/// Reads both configuration files and all files that they name.
#[must_use]
pub fn load(sources: &Sources) -> Loaded {
    load_into(FileSet::default(), sources)
}

fn load_into(mut files: FileSet, sources: &Sources) -> Loaded {
    let (config, mut diagnostics) = config::survey(sources, &mut files);
    let state = config.and_then(|config| {
        let (assets, more) = assets::load(&config, &mut files);
        diagnostics.extend(more);
        assets.map(|assets| (config, assets))
    });
    Loaded { state: state.filter(|_| !diagnostics.has_errors()), diagnostics, files }
}

/// How long a reload or a file check may take. Reading a file on a dead network file system never
/// ends.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// How many reloads may hang before the next one has to wait. Each of them keeps its thread.
const READINGS: usize = 4;

/// Reads the files. Tests replace it with an implementation that hangs.
trait Read: std::fmt::Debug + Send + Sync {
    /// Reads all files.
    fn load(&self, files: FileSet, sources: &Sources) -> Loaded;

    /// Reads the same files again, to find changes.
    fn again(&self, files: &FileSet, progress: Progress) -> FileSet;
}

#[derive(Debug)]
struct FileSystem;

impl Read for FileSystem {
    fn load(&self, files: FileSet, sources: &Sources) -> Loaded {
        load_into(files, sources)
    }

    fn again(&self, files: &FileSet, progress: Progress) -> FileSet {
        files.again(progress)
    }
}

fn reload_threads() -> Threads {
    Threads::new("reload", READINGS)
}

/// One file check at a time. If a check hangs, later checks wait for it, until a reload that does
/// not need the file replaces the thread.
fn check_threads() -> Threads {
    Threads::new("file check", 1)
}

/// Keeps a running server up to date with its configuration files.
///
/// It reloads on [`ReloadRequests`](crate::common::reload::ReloadRequests), and checks the
/// files for changes every `reload-interval`. After a failed reload it reloads again when a file
/// changes. If the files could not be read, or if a certificate was not valid yet, it also tries
/// again by itself.
#[derive(Debug)]
pub struct Reloader {
    handle: Handle,
    notifier: Notifier,
    sources: Sources,
    /// The configuration at the start of the process. Some keys keep its values until a restart.
    started: Config,
    /// The configuration in use.
    current: Config,
    /// The files as they were last read, even if that reload failed.
    files: FileSet,
    /// The certificates and revocation lists in use.
    certificates: Vec<CertificateFile>,
    /// Whether the configuration that was refused last may become valid without a change of any
    /// file.
    heals_with_time: bool,
    reader: Arc<dyn Read>,
    read_limit: Duration,
    reloads: Threads,
    checks: Threads,
    /// Whether the last reload could not read the files. The next file check then reloads.
    is_due: bool,
    /// Whether a file check has failed and the failure was logged.
    check_failed: bool,
    /// The file that hung last. A later check that waits for the hanging thread cannot find out the
    /// file by itself.
    hung: Option<PathBuf>,
}

/// The result of a file check.
struct CheckedFiles {
    files: FileSet,
    /// The refused configuration has become valid without a change of any file, because a
    /// certificate was not valid yet.
    has_healed: bool,
}

/// Why the files could not be read.
#[derive(Debug, thiserror::Error)]
enum FilesError {
    #[error(transparent)]
    Blocking(#[from] BlockingError),
    #[error("reading {} took longer than {} s", shown(.file.as_deref()), .limit.as_secs())]
    TimedOut {
        /// The file that hangs, if it is known.
        file: Option<PathBuf>,
        limit: Duration,
    },
}

fn shown(file: Option<&Path>) -> String {
    file.map_or_else(|| "the files".to_owned(), |file| file.display().to_string())
}

/// Why a reload failed.
enum Failure {
    /// The files have errors, which were logged.
    Mistakes,
    Read(FilesError),
    Reload(ReloadError),
}

/// How often certificates are logged that are expired, not valid yet, or about to expire.
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Reloader {
    /// Creates a reloader for a server that was started with `current` and `certificates`, read
    /// from `files`.
    #[must_use]
    pub fn new(
        notifier: Notifier,
        handle: Handle,
        sources: Sources,
        current: Config,
        files: FileSet,
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
            check_failed: false,
            hung: None,
        }
    }

    /// Reloads whenever a reload is requested or a file has changed. Once the server shuts down,
    /// requests get [`ReloadOutcome::ShuttingDown`].
    ///
    /// Dropping the future ends a reload in progress, whose outcome is then never reported. The
    /// server has the old configuration or the new one; see [`Handle::reload`].
    pub async fn run(mut self) -> Infallible {
        let requests = self.handle.reload_requests();
        let mut days = each_day();
        loop {
            let is_due = tokio::select! {
                () = requests.requested() => true,
                _ = days.tick() => {
                    warn_of(&self.certificates, OffsetDateTime::now_utc());
                    false
                }
                check = self.check_files() => self.calls_for_reload(check),
            };
            if !is_due {
                continue;
            }
            let round = requests.begin();
            let outcome = self.reload().await;
            requests.end(round, outcome);
            // The shutdown has already notified systemd.
            if outcome != ReloadOutcome::ShuttingDown {
                self.notifier.ready();
            }
        }
    }

    /// Waits for `reload-interval`, then checks the files. During a shutdown it never completes.
    async fn check_files(&self) -> Result<CheckedFiles, FilesError> {
        sleep(self.current.reload.interval.as_duration()).await;
        if !self.handle.is_serving() {
            return pending().await;
        }
        let (files, progress) = (self.files.clone(), Progress::default());
        let (again, heals_with_time) = (progress.clone(), self.heals_with_time);
        let (sources, reader) = (self.sources.clone(), Arc::clone(&self.reader));
        let check = self.checks.run(move || {
            let has_healed = || {
                let files = FileSet::with_progress(again.clone());
                reader.load(files, &sources).state.is_some()
            };
            let has_healed = heals_with_time && has_healed();
            CheckedFiles { has_healed, files: reader.again(&files, again) }
        });
        self.within_limit(check, &progress).await
    }

    /// Waits for `reading`, at most for the read limit.
    async fn within_limit<T>(
        &self,
        reading: impl Future<Output = Result<T, BlockingError>>,
        progress: &Progress,
    ) -> Result<T, FilesError> {
        match timeout(self.read_limit, reading).await {
            Ok(read) => Ok(read?),
            Err(_) => Err(FilesError::TimedOut {
                file: progress.reading().or_else(|| self.hung.clone()),
                limit: self.read_limit,
            }),
        }
    }

    /// Remembers the name of a file that hangs.
    fn remember(&mut self, error: &FilesError) {
        if let FilesError::TimedOut { file: Some(file), .. } = error {
            self.hung = Some(file.clone());
        }
    }

    /// Whether the result of a file check calls for a reload. Of several failed checks in a row,
    /// only the first is logged.
    fn calls_for_reload(&mut self, check: Result<CheckedFiles, FilesError>) -> bool {
        match check {
            Ok(CheckedFiles { has_healed, files: now }) => {
                self.hung = None;
                if std::mem::take(&mut self.check_failed) {
                    tracing::info!("checking the files for changes again");
                }
                let changed = now != self.files;
                if changed {
                    tracing::info!("files have changed");
                    // A reload that reads the files replaces this.
                    self.files = now;
                }
                changed || has_healed || self.is_due
            }
            Err(error) => {
                self.remember(&error);
                if !std::mem::replace(&mut self.check_failed, true) {
                    let error = Chain(&error);
                    tracing::error!(%error, "cannot check the files for changes; will retry");
                }
                false
            }
        }
    }

    /// Reloads, and logs why if the reload fails.
    async fn reload(&mut self) -> ReloadOutcome {
        // The listener no longer accepts on a new address, and systemd knows of the shutdown.
        if !self.handle.is_serving() {
            tracing::info!("no reload: shutting down");
            return ReloadOutcome::ShuttingDown;
        }
        self.notifier.reloading();
        let read = tokio::select! {
            biased;
            () = self.handle.drain_begins() => Err(Failure::Reload(ReloadError::ShuttingDown)),
            read = self.read() => read.map_err(Failure::Read),
        };
        let taken_over = match read {
            Ok(loaded) => self.take_over(loaded).await,
            Err(failure) => Err(failure),
        };
        let (outcome, error) = match taken_over {
            Ok(()) => return ReloadOutcome::Applied,
            Err(Failure::Reload(ReloadError::ShuttingDown)) => {
                tracing::info!("reload canceled: shutting down");
                return ReloadOutcome::ShuttingDown;
            }
            Err(Failure::Mistakes) => (ReloadOutcome::Rejected, None),
            Err(Failure::Reload(error)) => {
                (ReloadOutcome::Rejected, Some(Chain(&error).to_string()))
            }
            Err(Failure::Read(error)) => {
                self.is_due = true;
                self.remember(&error);
                let outcome = match &error {
                    FilesError::Blocking(BlockingError::NoThread { .. }) => {
                        ReloadOutcome::NoResources
                    }
                    FilesError::Blocking(BlockingError::Panicked { .. })
                    | FilesError::TimedOut { .. } => ReloadOutcome::Rejected,
                };
                (outcome, Some(Chain(&error).to_string()))
            }
        };
        self.handle.reload_requests().failed();
        tracing::error!(error, "reload failed; keeping the current configuration");
        outcome
    }

    async fn read(&self) -> Result<Loaded, FilesError> {
        let (sources, progress) = (self.sources.clone(), Progress::default());
        let (files, reader) = (FileSet::with_progress(progress.clone()), Arc::clone(&self.reader));
        let reading = self.reloads.run(move || reader.load(files, &sources));
        self.within_limit(reading, &progress).await
    }

    async fn take_over(&mut self, loaded: Loaded) -> Result<(), Failure> {
        let Loaded { state, diagnostics, files } = loaded;
        self.files = files;
        self.is_due = false;
        // All files were read, so a thread that still hangs is reading a file that is no longer
        // configured. New threads replace it, so that no later reload waits for it.
        (self.reloads, self.checks) = (reload_threads(), check_threads());
        self.check_failed = false;
        self.hung = None;
        self.heals_with_time = diagnostics.heal_with_time();
        for diagnostic in diagnostics.iter() {
            match diagnostic.severity {
                Severity::NotYet | Severity::Error => {
                    tracing::error!(at = %diagnostic.location, "{}", diagnostic.message)
                }
                Severity::Warning => {
                    tracing::warn!(at = %diagnostic.location, "{}", diagnostic.message)
                }
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
        if self.handle.has_passed_socket()
            && self.started.listener.address != config.listener.address
        {
            tracing::warn!(
                address = %config.listener.address,
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

/// Ticks once a day. The first tick is in a day.
fn each_day() -> Interval {
    interval_at(Instant::now() + DAY, DAY)
}

/// Logs a warning for each file that is expired, not valid yet, or about to expire.
fn warn_of(certificates: &[CertificateFile], now: OffsetDateTime) {
    for file in certificates {
        if let Some(complaint) = file.complaint(now) {
            tracing::warn!(file = %file.path.display(), "{complaint}");
        }
    }
}

/// The names of the enabled exporters for which `wanted` is true, in file order. `None` if there
/// are no such exporters.
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

/// The day on which the first certificate expires, in UTC.
pub(crate) fn first_expiry(assets: &Assets) -> Option<String> {
    let first = assets.certificates.iter().map(|file| file.expires).min();
    first.map(|expires| expires.date().to_string())
}

/// The changed keys that are read only at the start of the process.
fn needs_restart(started: &Config, now: &Config) -> Vec<&'static str> {
    let (old, new) = (&started.limits, &now.limits);
    [
        ("worker-threads", started.process.worker_threads != now.process.worker_threads),
        ("log-format", started.process.log_format != now.process.log_format),
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
