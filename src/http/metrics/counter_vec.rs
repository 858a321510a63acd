//! Counters that differ in the value of one label.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Counts by constant label value. All values that are known beforehand exist from the start, so
/// that the first event of a kind is visible as an increase.
#[derive(Debug)]
pub(super) struct CounterVec(Mutex<BTreeMap<&'static str, u64>>);

impl CounterVec {
    pub(super) fn new(words: impl IntoIterator<Item = &'static str>) -> Self {
        Self(Mutex::new(words.into_iter().map(|word| (word, 0)).collect()))
    }

    pub(super) fn count(&self, word: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(word).or_default() += 1;
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
