//! `metrics-keep` and `metrics-drop` of an exporter.

use std::collections::HashMap;

use super::{
    diagnostics::Located,
    section_reader::{Read, Reported, SectionReader},
    values::shown,
};
use crate::common::families::{FamilyPattern, FamilyRules};

const KEEP: &str = "metrics-keep";
const DROP: &str = "metrics-drop";

/// The two expressions, each parsed by itself.
pub(super) struct FamilyKeys {
    keep: Read<FamilyPattern>,
    drop: Read<FamilyPattern>,
}

/// The expressions of one file. Sections with the same expression share one compiled copy. This matters
/// for `[default]`: a compiled expression can need 1 MiB, and a cache for each worker.
#[derive(Default)]
pub(super) struct PatternCache {
    patterns: HashMap<String, Result<FamilyPattern, String>>,
    /// Whether this `metrics-keep` and this `metrics-drop` together keep nothing.
    keeps_nothing: HashMap<[Option<String>; 2], bool>,
}

impl PatternCache {
    fn pattern(&mut self, value: &str) -> Result<FamilyPattern, String> {
        if let Some(known) = self.patterns.get(value) {
            return known.clone();
        }
        let pattern = FamilyPattern::new(value)
            .map_err(|reason| format!("{} is not a regular expression: {reason}", shown(value)));
        self.patterns.insert(value.to_owned(), pattern.clone());
        pattern
    }

    fn keeps_nothing(&mut self, rules: &FamilyRules) -> bool {
        let both = [rules.keep(), rules.drop()];
        let both = both.map(|pattern| pattern.map(|pattern| pattern.as_str().to_owned()));
        *self.keeps_nothing.entry(both).or_insert_with(|| rules.keeps_nothing())
    }
}

impl FamilyKeys {
    pub(super) fn read(reader: &mut SectionReader<'_>, cache: &mut PatternCache) -> Self {
        let keep = reader.read(KEEP, |value| cache.pattern(value));
        Self { keep, drop: reader.read(DROP, |value| cache.pattern(value)) }
    }

    /// The rules of both. Rules that keep nothing are an error: no scrape would be of any use.
    pub(super) fn rules(
        &self,
        reader: &mut SectionReader<'_>,
        cache: &mut PatternCache,
    ) -> Result<Option<FamilyRules>, Reported> {
        let (keep, drop) = (self.keep.clone()?, self.drop.clone()?);
        let value = |located: &Option<Located<FamilyPattern>>| {
            located.as_ref().map(|located| located.value.clone())
        };
        let rules = FamilyRules::new(value(&keep), value(&drop));
        if !rules.as_ref().is_some_and(|rules| cache.keeps_nothing(rules)) {
            return Ok(rules);
        }
        let message = match (&keep, &drop) {
            (Some(_), Some(_)) => {
                format!("keeps nothing: `{DROP}` matches each name that `{KEEP}` matches")
            }
            (None, _) => "keeps nothing: matches every name".to_owned(),
            (_, None) => "keeps nothing: matches no name".to_owned(),
        };
        let culprit =
            if reader.is_own(KEEP) && !reader.is_own(DROP) { keep } else { drop.or(keep) };
        Err(culprit.map_or(Reported, |located| reader.error(located.location, message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_expressions_are_compiled_once_and_others_are_not_mixed_up() {
        let mut cache = PatternCache::default();
        let mut pattern = |source| cache.pattern(source).expect("an expression");
        let (first, second, other) = (pattern("a.*"), pattern("a.*"), pattern("b"));
        assert_eq!(first.as_str().as_ptr(), second.as_str().as_ptr());
        assert!(second.matches(b"a1") && !other.matches(b"a1") && other.matches(b"b"));
        for _ in 0..2 {
            let error = cache.pattern("(").expect_err("no expression");
            assert_eq!(error, "`(` is not a regular expression: unclosed group");
        }
        let nothing = |keep: &FamilyPattern, drop: &FamilyPattern, cache: &mut PatternCache| {
            let rules = FamilyRules::new(Some(keep.clone()), Some(drop.clone()));
            cache.keeps_nothing(&rules.expect("rules"))
        };
        for _ in 0..2 {
            assert!(nothing(&first, &second, &mut cache));
            assert!(!nothing(&first, &other, &mut cache));
            assert!(!nothing(&other, &first, &mut cache));
        }
    }
}
