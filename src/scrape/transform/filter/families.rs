//! The family of each record, and whether it is passed on.
//!
//! A sample belongs to the family of its own name if there is one. Otherwise it belongs to the
//! family that a `# TYPE` line declared with the name without its suffix, if samples of that type
//! have the suffix. Otherwise its name becomes a family.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    common::families::FamilyRules,
    scrape::exposition::{MetricType, SUFFIXES},
};

/// Limit for the number of families that are remembered. This many fill a hash table of 4096
/// places, which takes 70 KiB.
///
/// Families beyond the limit are still judged by their names, and a dropped one counts each time
/// that it begins. Samples with a suffix must follow the `# TYPE` line of their family, as the formats
/// require, with no other family in between.
pub(super) const MAX_FAMILIES: usize = 3584;

/// A family.
#[derive(Clone, Copy, Debug)]
struct Family {
    passes: bool,
    kind: Option<MetricType>,
}

/// The family that a sample belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Belongs {
    /// The family of the record before it, or one with the prefix of its name. The current family is
    /// the same as before, so the verdicts about the samples since its beginning are still valid.
    ToCurrent { passes: bool },
    /// The family of its own name, which is the current one from here on.
    ToAnother { passes: bool },
}

/// The hash of a key that is a hash already.
#[derive(Debug, Default)]
struct Given(u64);

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not called: all keys are `u64`.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The families seen so far.
#[derive(Debug)]
pub(super) struct Families {
    rules: FamilyRules,
    /// By the hash of the name, because names take more memory. Two names with the same hash are
    /// unlikely, and no exporter can find them: the keys of the hash are random.
    seen: HashMap<u64, Family, BuildHasherDefault<Given>>,
    hash: RandomState,
    /// The family of the last record.
    current: Family,
    current_name: Vec<u8>,
    current_hash: u64,
    /// Whether there was a name that is too long to be known.
    has_unknown: bool,
    /// Number of families that were not passed on.
    dropped: Arc<AtomicU64>,
}

impl Families {
    pub(super) fn new(rules: FamilyRules, dropped: Arc<AtomicU64>) -> Self {
        Self {
            rules,
            seen: HashMap::default(),
            hash: RandomState::new(),
            current: Family { passes: true, kind: None },
            current_name: Vec::new(),
            current_hash: 0,
            has_unknown: false,
            dropped,
        }
    }

    /// Counts a family whose name is not known, and which is not passed on. All lines without a known
    /// name count as one family.
    pub(super) fn drop_unknown(&mut self) {
        if !std::mem::replace(&mut self.has_unknown, true) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a metadata line of this family is passed on. `kind` is the type in a `# TYPE` line. If
    /// a family has several, the first one counts.
    pub(super) fn metadata(&mut self, name: &[u8], kind: Option<MetricType>) -> bool {
        if !self.is_current(name) {
            self.enter(self.hash.hash_one(name), name);
        }
        if self.current.kind.is_none() && kind.is_some() {
            self.current.kind = kind;
            if let Some(family) = self.seen.get_mut(&self.current_hash) {
                family.kind = kind;
            }
        }
        self.current.passes
    }

    /// The family of a sample with this name.
    pub(super) fn sample(&mut self, name: &[u8]) -> Belongs {
        if self.is_current(name) {
            return Belongs::ToCurrent { passes: self.current.passes };
        }
        let hash = self.hash.hash_one(name);
        if !self.seen.contains_key(&hash) {
            if let Some(owner) = self.owner(name) {
                return Belongs::ToCurrent { passes: owner.passes };
            }
        }
        self.enter(hash, name);
        Belongs::ToAnother { passes: self.current.passes }
    }

    /// Before the first family there is no current one. No family has an empty name.
    fn is_current(&self, name: &[u8]) -> bool {
        self.current_name == name && !name.is_empty()
    }

    /// The family that this sample is a part of, other than the family of its own name.
    fn owner(&self, name: &[u8]) -> Option<Family> {
        SUFFIXES.iter().find_map(|suffix| {
            let stem = name.strip_suffix(*suffix)?;
            let family = if self.is_current(stem) {
                self.current
            } else {
                *self.seen.get(&self.hash.hash_one(stem))?
            };
            family.kind.is_some_and(|kind| kind.has_suffix(suffix)).then_some(family)
        })
    }

    /// Makes the family of this name the current one.
    fn enter(&mut self, hash: u64, name: &[u8]) {
        let family = self.seen.get(&hash).copied();
        self.current = family.unwrap_or_else(|| self.add(hash, name));
        self.current_name.clear();
        self.current_name.extend_from_slice(name);
        self.current_hash = hash;
    }

    fn add(&mut self, hash: u64, name: &[u8]) -> Family {
        let family = Family { passes: self.rules.passes(name), kind: None };
        if !family.passes {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if self.seen.len() < MAX_FAMILIES {
            self.seen.insert(hash, family);
        }
        family
    }
}
