//! What `metrics-keep` and `metrics-drop` leave of an answer.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

use super::measurement::Filtered;
use crate::{
    common::{
        error::{Abort, UpstreamError},
        exporter::Exporter,
    },
    scrape::{
        exposition::Analyzer,
        transform::{
            Out, Transform,
            filter::{self, Filter},
        },
    },
    upstream::UpstreamHead,
};

/// Filters a text as the proxy does, and counts what is left.
#[derive(Debug)]
pub(super) struct FilteredText {
    filter: Filter,
    left: Analyzer,
    dropped: Arc<AtomicU64>,
}

impl FilteredText {
    /// `None` if the exporter has no filter.
    ///
    /// # Errors
    /// If the answer that follows `head` cannot be filtered.
    pub(super) fn of(
        exporter: &Exporter,
        head: &UpstreamHead,
    ) -> Result<Option<Self>, UpstreamError> {
        let Some(rules) = &exporter.rules.families else { return Ok(None) };
        Ok(filter::format_of(head)?.map(|format| {
            let dropped = Arc::default();
            let filter = Filter::new(rules.clone(), format, Arc::clone(&dropped));
            Self { filter, left: Analyzer::new(format), dropped }
        }))
    }

    /// Filters the next bytes.
    pub(super) fn push(&mut self, data: &Bytes) -> Result<(), Abort> {
        let mut out = Out::default();
        self.filter.push(data.clone(), &mut out)?;
        out.into_iter().for_each(|piece| self.left.push(&piece));
        Ok(())
    }

    /// What is left. `whole`: the text is complete.
    pub(super) fn finish(mut self, whole: bool) -> Result<Filtered, Abort> {
        if whole {
            let mut out = Out::default();
            self.filter.finish(&mut out)?;
            out.into_iter().for_each(|piece| self.left.push(&piece));
        }
        let left = self.left.stop();
        Ok(Filtered {
            bytes: left.bytes,
            samples: left.samples,
            family_count: left.families.len() as u64,
            families_dropped: self.dropped.load(Ordering::Relaxed),
        })
    }
}
