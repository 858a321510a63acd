//! The lists of words are whole.

use std::collections::BTreeSet;

use super::*;

#[test]
fn the_list_has_the_word_of_every_abort_and_no_other() {
    let mut all = vec![Abort::ExporterReset];
    // From one to the next, so that a new one cannot be forgotten.
    while let Some(next) = match all[all.len() - 1] {
        Abort::ExporterReset => Some(Abort::ExporterCutShort),
        Abort::ExporterCutShort => Some(Abort::ExporterGarbage),
        Abort::ExporterGarbage => Some(Abort::TooLarge),
        Abort::TooLarge => Some(Abort::Integrity(IntegrityFault::NoEofMarker)),
        Abort::Integrity(_) => Some(Abort::DeadlineExporter),
        Abort::DeadlineExporter => Some(Abort::DeadlineScraper),
        Abort::DeadlineScraper => Some(Abort::ScraperStalled),
        Abort::ScraperStalled => Some(Abort::ScraperGone),
        Abort::ScraperGone => Some(Abort::Shutdown),
        Abort::Shutdown => Some(Abort::Panicked),
        Abort::Panicked => None,
    } {
        all.push(next);
    }
    let words: Vec<_> = all.iter().map(|abort| abort.label()).collect();
    assert_eq!(words, Abort::LABELS);
}

#[test]
fn the_rejections_are_the_refusals_before_a_scrape() {
    let mut all = vec![Refusal::Version];
    while let Some(next) = match all[all.len() - 1] {
        Refusal::Version => Some(Refusal::BadHost),
        Refusal::BadHost => Some(Refusal::RequestBody),
        Refusal::RequestBody => Some(Refusal::Method),
        Refusal::Method => Some(Refusal::UnknownPath),
        Refusal::UnknownPath => Some(Refusal::ExporterParameter),
        Refusal::ExporterParameter => Some(Refusal::Query),
        Refusal::Query => Some(Refusal::NotAllowed),
        Refusal::NotAllowed => Some(Refusal::Unauthorized),
        Refusal::Unauthorized => Some(Refusal::BrokenConfiguration),
        // Those of a scrape.
        Refusal::BrokenConfiguration
        | Refusal::UnknownExporter
        | Refusal::TooManyScrapes
        | Refusal::Draining
        | Refusal::Upstream(_) => None,
    } {
        all.push(next);
    }
    let words: BTreeSet<_> = all.iter().map(Refusal::label).collect();
    assert_eq!(words, BTreeSet::from(REJECTIONS));
}
