//! The table of metric families, up to [`MAX_FAMILIES`].

use std::{collections::HashMap, sync::Arc};

use super::{
    format::{MetricType, SUFFIXES},
    statistics::{Beyond, Family},
};

/// Limit for the number of families. Samples of further families are only counted.
pub const MAX_FAMILIES: usize = 10_000;

/// Limit for the length of a family's name, in bytes. Families with a longer name count as beyond
/// [`MAX_FAMILIES`].
pub const MAX_NAME: usize = 512;

/// One family in the table.
#[derive(Debug)]
pub(super) struct FamilyEntry {
    name: Arc<[u8]>,
    pub(super) kind: Option<MetricType>,
    pub(super) has_help: bool,
    pub(super) series: u64,
    bytes: u64,
}

impl FamilyEntry {
    fn owns(&self, sample: &[u8]) -> bool {
        sample.strip_prefix(&*self.name).is_some_and(|suffix| {
            suffix.is_empty() || self.kind.is_some_and(|kind| kind.has_suffix(suffix))
        })
    }
}

/// The families seen so far, and the totals of those beyond the limit.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<FamilyEntry>,
    by_name: HashMap<Arc<[u8]>, usize>,
    /// The family of the previous line. Usually the next line belongs to it too.
    current: Option<usize>,
    beyond: Option<Beyond>,
}

impl Table {
    /// Counts a metadata line other than `# HELP` and `# TYPE`.
    pub(super) fn comment(&mut self, name: &[u8], bytes: u64) {
        match self.entry(name) {
            Some(entry) => entry.bytes += bytes,
            None => self.beyond().bytes += bytes,
        }
    }

    /// Counts a `# HELP` line.
    pub(super) fn help(&mut self, name: &[u8], bytes: u64) {
        match self.entry(name) {
            Some(entry) => {
                entry.bytes += bytes;
                entry.has_help = true;
            }
            None => self.beyond().bytes += bytes,
        }
    }

    /// Counts a `# TYPE` line. If a family has several, the first one is used.
    pub(super) fn declare(&mut self, name: &[u8], kind: MetricType, bytes: u64) {
        match self.entry(name) {
            Some(entry) => {
                entry.bytes += bytes;
                entry.kind.get_or_insert(kind);
            }
            None => self.beyond().bytes += bytes,
        }
    }

    /// The family that promtool assigns to a name: the family with this name, else the summary or
    /// histogram that the name is a part of.
    pub(super) fn checked(&self, name: &[u8]) -> Option<&FamilyEntry> {
        if let Some(&index) = self.by_name.get(name) {
            return self.entries.get(index);
        }
        let parts: [(&[u8], &[MetricType]); 3] = [
            (b"_count", &[MetricType::Summary, MetricType::Histogram]),
            (b"_sum", &[MetricType::Summary, MetricType::Histogram]),
            (b"_bucket", &[MetricType::Histogram]),
        ];
        parts.iter().find_map(|(suffix, kinds)| {
            let &index = self.by_name.get(name.strip_suffix(*suffix)?)?;
            let entry = self.entries.get(index)?;
            kinds.contains(&entry.kind?).then_some(entry)
        })
    }

    /// Counts a sample, given its full name.
    pub(super) fn sample(&mut self, name: &[u8], bytes: u64) {
        match self.owner(name) {
            Some(index) => {
                self.current = Some(index);
                let entry = &mut self.entries[index];
                entry.series += 1;
                entry.bytes += bytes;
            }
            None => {
                let beyond = self.beyond();
                beyond.series += 1;
                beyond.bytes += bytes;
            }
        }
    }

    /// All families in the order of their first lines, and the totals of the others.
    pub(super) fn into_families(self) -> (Vec<Family>, Option<Beyond>) {
        let families = self.entries.into_iter().map(|entry| Family {
            name: String::from_utf8_lossy(&entry.name).into_owned(),
            kind: entry.kind.unwrap_or(MetricType::Untyped),
            series: entry.series,
            bytes: entry.bytes,
        });
        (families.collect(), self.beyond)
    }

    fn owner(&mut self, sample: &[u8]) -> Option<usize> {
        if let Some(index) = self.current.filter(|it| self.entries[*it].owns(sample)) {
            return Some(index);
        }
        if let Some(&index) = self.by_name.get(sample) {
            return Some(index);
        }
        let declared = SUFFIXES.iter().find_map(|suffix| {
            let &index = self.by_name.get(sample.strip_suffix(*suffix)?)?;
            self.entries[index].owns(sample).then_some(index)
        });
        declared.or_else(|| self.add(sample))
    }

    /// The family with exactly this name, added if necessary. `None` if it is beyond the limit.
    fn entry(&mut self, name: &[u8]) -> Option<&mut FamilyEntry> {
        let found = self.by_name.get(name).copied();
        let index = found.or_else(|| self.add(name))?;
        self.current = Some(index);
        self.entries.get_mut(index)
    }

    fn add(&mut self, name: &[u8]) -> Option<usize> {
        let index = self.entries.len();
        if index == MAX_FAMILIES || name.len() > MAX_NAME {
            return None;
        }
        let name: Arc<[u8]> = name.into();
        self.by_name.insert(Arc::clone(&name), index);
        self.entries.push(FamilyEntry { name, kind: None, has_help: false, series: 0, bytes: 0 });
        Some(index)
    }

    fn beyond(&mut self) -> &mut Beyond {
        self.beyond.get_or_insert_default()
    }
}
