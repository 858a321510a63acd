//! `metrics-keep` and `metrics-drop` of an exporter.

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

impl FamilyKeys {
    pub(super) fn read(reader: &mut SectionReader<'_>) -> Self {
        Self { keep: reader.read(KEEP, pattern), drop: reader.read(DROP, pattern) }
    }

    /// The rules of both. Rules that keep nothing are an error: no scrape would be of any use.
    pub(super) fn rules(
        &self,
        reader: &mut SectionReader<'_>,
    ) -> Result<Option<FamilyRules>, Reported> {
        let (keep, drop) = (self.keep.clone()?, self.drop.clone()?);
        let value = |located: &Option<Located<FamilyPattern>>| {
            located.as_ref().map(|located| located.value.clone())
        };
        let rules = FamilyRules::new(value(&keep), value(&drop));
        if !rules.as_ref().is_some_and(FamilyRules::keeps_nothing) {
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

fn pattern(value: &str) -> Result<FamilyPattern, String> {
    FamilyPattern::new(value)
        .map_err(|reason| format!("{} is not a regular expression: {reason}", shown(value)))
}
