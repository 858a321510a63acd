//! The files read again: when someone asks, and when they hold something else than they did.

use std::{convert::Infallible, time::Duration};

use time::OffsetDateTime;
use tokio::{
    task::spawn_blocking,
    time::{Instant, Interval, interval_at, sleep},
};

pub use crate::trigger::Status;
use crate::{
    assets::{self, Assets, CertificateFile},
    config::{self, Config, Findings, Severity, Sources},
    exporter::ExporterName,
    file::Files,
    scrape::Chain,
    server::{Handle, Reloaded},
    systemd,
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
    let mut files = Files::default();
    let (config, mut findings) = config::survey(sources, &mut files);
    let state = config.and_then(|config| {
        let (assets, more) = assets::load(&config, &mut files);
        findings.extend(more);
        assets.map(|assets| (config, assets))
    });
    Loaded { state: state.filter(|_| !findings.has_errors()), findings, files }
}

/// Keeps a running server at what the files say.
///
/// It waits on the server's [`Trigger`](crate::trigger::Trigger), and looks at the files every
/// `reload-interval`. A state that was refused is not tried again by itself until a file changes.
#[derive(Debug)]
pub struct Reloader {
    handle: Handle,
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
}

/// How often certificates that are out of their time, or soon will be, are warned about.
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Reloader {
    /// For a server that was started with `current` and `certificates`, read from `files`.
    #[must_use]
    pub fn new(
        handle: Handle,
        sources: Sources,
        current: Config,
        files: Files,
        certificates: Vec<CertificateFile>,
    ) -> Self {
        let (started, heals_with_time) = (current.clone(), false);
        Self { handle, sources, started, current, files, certificates, heals_with_time }
    }

    /// Reloads whenever there is reason to. Dropped, it leaves the server as it is; a reload that
    /// has begun is then not told of.
    pub async fn run(mut self) -> Infallible {
        let trigger = self.handle.trigger();
        let mut days = each_day();
        loop {
            tokio::select! {
                () = trigger.pulled() => {}
                _ = days.tick() => {
                    warn_of(&self.certificates, OffsetDateTime::now_utc());
                    continue;
                }
                () = sleep(self.current.reload_interval.as_duration()) => {
                    if !self.handle.is_serving()
                        || !(self.files_changed().await || self.has_healed().await)
                    {
                        continue;
                    }
                }
            }
            let round = trigger.begin();
            // Nobody accepts on a new address any more, and systemd has been told of the end.
            if !self.handle.is_serving() {
                tracing::info!("no reload: shutting down");
                trigger.end(round, false);
                continue;
            }
            systemd::reloading();
            let successful = self.reload().await;
            trigger.end(round, successful);
            systemd::ready(&self.handle);
        }
    }

    /// Whether time has healed what was refused: a certificate that was not valid yet.
    async fn has_healed(&self) -> bool {
        if !self.heals_with_time {
            return false;
        }
        let sources = self.sources.clone();
        match spawn_blocking(move || load(&sources)).await {
            Ok(loaded) => loaded.state.is_some(),
            Err(_) => false,
        }
    }

    async fn files_changed(&mut self) -> bool {
        let files = self.files.clone();
        // Files can be slow; connections are accepted meanwhile.
        match spawn_blocking(move || files.again()).await {
            Ok(now) if now != self.files => {
                tracing::info!("files have changed");
                // A reload that gets as far as reading them has its own view.
                self.files = now;
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::error!(%error, "cannot look at the files");
                false
            }
        }
    }

    /// Goes on with what is in the files now, and says whether that was possible.
    async fn reload(&mut self) -> bool {
        match self.try_reload().await {
            Ok(()) => true,
            Err(reason) => {
                self.handle.metrics().reload_failed();
                tracing::error!(error = reason, "reload refused, the configuration in use stays");
                false
            }
        }
    }

    /// The reason for a refusal is absent where findings have it.
    async fn try_reload(&mut self) -> Result<(), Option<String>> {
        let sources = self.sources.clone();
        let Loaded { state, findings, files } = spawn_blocking(move || load(&sources))
            .await
            .map_err(|error| Some(error.to_string()))?;
        self.files = files;
        self.heals_with_time = findings.heal_with_time();
        for finding in findings.iter() {
            match finding.severity {
                Severity::NotYet | Severity::Error => {
                    tracing::error!(at = %finding.origin, "{}", finding.message)
                }
                Severity::Warning => tracing::warn!(at = %finding.origin, "{}", finding.message),
            }
        }
        let (config, assets) = state.ok_or(None)?;
        let first_expiry = first_expiry(&assets);
        let certificates = assets.validities();
        let Reloaded { listens_anew, dismissed } =
            self.handle.reload(&config, assets).map_err(|error| Some(Chain(&error).to_string()))?;
        for key in needs_restart(&self.started, &config) {
            tracing::warn!(key, "a change of this key takes a restart");
        }
        if self.handle.was_given_its_socket() && self.started.listen != config.listen {
            tracing::warn!(
                address = %config.listen,
                "a change of the address is ignored: it listens on the socket that was passed on"
            );
        }
        if let Some(address) = listens_anew {
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
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn f14_certificates_are_warned_about_once_a_day() {
        let begun = Instant::now();
        let mut days = each_day();
        for day in 1..4 {
            days.tick().await;
            assert_eq!(begun.elapsed().as_secs(), day * 24 * 3600);
        }
    }
}
