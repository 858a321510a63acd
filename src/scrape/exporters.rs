//! The exporters that scrapers can ask for. A reload replaces the configuration of an exporter and
//! keeps its state.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ledger::Ledger;
use crate::common::exporter::{Exporter, ExporterName};

/// What outlives a reload: the results of an exporter's scrapes, and its permits.
#[derive(Debug)]
pub struct ExporterState {
    /// The results of its scrapes so far.
    pub ledger: Arc<Ledger>,
    slots: Arc<Semaphore>,
}

/// One of an exporter's `max-concurrent` permits. Dropping it returns the permit.
#[derive(Debug)]
pub struct ScrapePermit {
    _permit: OwnedSemaphorePermit,
}

/// An exporter, and what its scrapes share.
#[derive(Clone, Debug)]
pub struct ActiveExporter {
    /// How to scrape it.
    pub config: Exporter,
    /// Its results and permits.
    pub state: Arc<ExporterState>,
}

impl ActiveExporter {
    /// Takes one of the `max-concurrent` permits, or returns `None` if all are in use. Never waits.
    #[must_use]
    pub fn try_acquire(&self) -> Option<ScrapePermit> {
        Arc::clone(&self.state.slots)
            .try_acquire_owned()
            .ok()
            .map(|permit| ScrapePermit { _permit: permit })
    }

    /// Takes over the ledger of `before`. If `max-concurrent` is unchanged, takes over the permits
    /// too, so that scrapes in flight still count.
    fn continue_from(&mut self, before: &Self) {
        self.state = if self.config.rules.max_concurrent == before.config.rules.max_concurrent {
            Arc::clone(&before.state)
        } else {
            Arc::new(ExporterState {
                ledger: Arc::clone(&before.state.ledger),
                slots: Arc::clone(&self.state.slots),
            })
        };
    }
}

impl From<Exporter> for ActiveExporter {
    /// An exporter with an empty ledger and all `max-concurrent` permits.
    fn from(config: Exporter) -> Self {
        let slots = usize::try_from(config.rules.max_concurrent.get())
            .unwrap_or(Semaphore::MAX_PERMITS)
            .min(Semaphore::MAX_PERMITS);
        let state = ExporterState {
            ledger: Arc::new(Ledger::new(Instant::now())),
            slots: Arc::new(Semaphore::new(slots)),
        };
        Self { config, state: Arc::new(state) }
    }
}

/// The enabled exporters, in file order.
#[derive(Clone, Debug, Default)]
pub struct Exporters {
    in_order: Vec<Arc<ActiveExporter>>,
    by_name: HashMap<ExporterName, usize>,
}

impl Exporters {
    /// All names, in file order.
    pub fn names(&self) -> impl Iterator<Item = &ExporterName> {
        self.in_order.iter().map(|exporter| &exporter.config.name)
    }

    /// All exporters, in file order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ActiveExporter>> {
        self.in_order.iter()
    }

    /// The exporter with this name, if it is enabled.
    #[must_use]
    pub fn get(&self, name: &ExporterName) -> Option<&Arc<ActiveExporter>> {
        self.by_name.get(name).map(|&index| &self.in_order[index])
    }

    /// The number of exporters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.in_order.len()
    }

    /// Whether no exporter is enabled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }

    /// Takes over the state of exporters that have the same name in `before`.
    ///
    /// Call it before the exporters are shared: a shared exporter is left unchanged.
    pub fn continue_from(&mut self, before: &Self) {
        for exporter in &mut self.in_order {
            let old = before.get(&exporter.config.name);
            if let (Some(old), Some(new)) = (old, Arc::get_mut(exporter)) {
                new.continue_from(old);
            }
        }
    }
}

impl FromIterator<Exporter> for Exporters {
    /// Collects exporters. If two have the same name, [`Exporters::get`] finds the first. The
    /// configuration refuses such a file.
    fn from_iter<I: IntoIterator<Item = Exporter>>(iter: I) -> Self {
        let mut all = Self::default();
        for exporter in iter {
            all.by_name.entry(exporter.name.clone()).or_insert(all.in_order.len());
            all.in_order.push(Arc::new(exporter.into()));
        }
        all
    }
}

/// An exporter for unit tests.
#[cfg(test)]
pub(crate) mod fixture {
    use std::{
        num::{NonZeroU16, NonZeroU32},
        time::Duration,
    };

    use super::{Exporter, ExporterName};
    use crate::common::{
        compression::CompressionRules,
        deadline::Budget,
        exporter::{ExporterPath, Integrity, ScrapeRules, Target},
    };

    /// An exporter with one permit, which nothing listens for.
    pub(crate) fn exporter() -> Exporter {
        let budget =
            |seconds| Budget::new(Duration::from_secs(seconds)).expect("within the limits");
        Exporter {
            name: ExporterName::new("x").expect("a name"),
            target: Target::Tcp { host: "localhost".to_owned(), port: NonZeroU16::MIN },
            tls: None,
            path: ExporterPath::new("/metrics").expect("a path"),
            authorization: None,
            rules: ScrapeRules {
                interval: budget(15),
                timeout: budget(5),
                connect_timeout: budget(1),
                max_concurrent: NonZeroU32::MIN,
                max_body: None,
                forward_params: true,
                integrity: Integrity::Strict,
                compression: CompressionRules::default(),
                families: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two exporters. The second has `permits` permits.
    fn exporters(permits: u32) -> Exporters {
        let mut second = fixture::exporter();
        second.name = ExporterName::new("y").expect("a name");
        second.rules.max_concurrent = permits.try_into().expect("not zero");
        [fixture::exporter(), second].into_iter().collect()
    }

    #[test]
    fn exporters_are_counted() {
        assert_eq!((exporters(1).len(), exporters(1).is_empty()), (2, false));
        assert_eq!((Exporters::default().len(), Exporters::default().is_empty()), (0, true));
    }

    #[test]
    fn after_a_reload_permits_continue_to_count_if_their_number_is_unchanged() {
        let before = exporters(1);
        let taken: Vec<_> = before.iter().map(|exporter| exporter.try_acquire()).collect();
        assert!(taken.iter().all(Option::is_some), "each has one permit");
        for (permits, is_free) in [(1, [false, false]), (2, [false, true])] {
            let mut after = exporters(permits);
            after.continue_from(&before);
            let free: Vec<_> = after.iter().map(|it| it.try_acquire().is_some()).collect();
            assert_eq!(free, is_free, "{permits}");
            for (old, new) in before.iter().zip(after.iter()) {
                assert!(Arc::ptr_eq(&old.state.ledger, &new.state.ledger));
            }
        }
    }
}
