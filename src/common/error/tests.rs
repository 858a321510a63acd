//! The lists of labels are complete.

use std::collections::BTreeSet;

use super::*;
use crate::common::blocking::BlockingError;

#[test]
fn abort_labels_are_complete_and_in_order() {
    let mut all = vec![Abort::ExporterReset];
    // The match leads from each variant to the next one. A new variant does not compile until it
    // has a place here.
    while let Some(next) = match all[all.len() - 1] {
        Abort::ExporterReset => Some(Abort::ExporterCutShort),
        Abort::ExporterCutShort => Some(Abort::ExporterGarbage),
        Abort::ExporterGarbage => Some(Abort::TooLarge),
        Abort::TooLarge => Some(Abort::Integrity(IntegrityFault::NoEofMarker)),
        Abort::Integrity(_) => Some(Abort::DeadlineExporter),
        Abort::DeadlineExporter => Some(Abort::DeadlineProxy),
        Abort::DeadlineProxy => Some(Abort::DeadlineScraper),
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
        Refusal::RequestBody => Some(Refusal::Method(Methods::GetAndHead)),
        Refusal::Method(_) => Some(Refusal::UnknownPath),
        Refusal::UnknownPath => Some(Refusal::EncodedQuery),
        Refusal::EncodedQuery => Some(Refusal::ExporterParameter),
        Refusal::ExporterParameter => Some(Refusal::StrayExporterParameter),
        Refusal::StrayExporterParameter => Some(Refusal::Query),
        Refusal::Query => Some(Refusal::NotAllowed),
        Refusal::NotAllowed => Some(Refusal::Dismissed),
        Refusal::Dismissed => Some(Refusal::Unauthorized),
        Refusal::Unauthorized => Some(Unchecked::QueueFull.into()),
        Refusal::Unchecked(Unchecked::QueueFull) => Some(Unchecked::TooLate.into()),
        Refusal::Unchecked(Unchecked::TooLate) => {
            Some(Unchecked::Failed(BlockingError::Panicked { purpose: "check" }).into())
        }
        Refusal::Unchecked(Unchecked::Failed(_)) => Some(Refusal::TooManyAnswers),
        Refusal::TooManyAnswers => Some(Refusal::ReloadRefused),
        Refusal::ReloadRefused => Some(Refusal::BrokenConfiguration),
        Refusal::BrokenConfiguration => Some(Refusal::NoResources("cause".into())),
        Refusal::NoResources(_) => Some(Refusal::Draining),
        // These happen after the exporter is known.
        Refusal::Draining
        | Refusal::UnknownExporter
        | Refusal::TooManyScrapes
        | Refusal::Enrol(_)
        | Refusal::Upstream(_) => None,
    } {
        all.push(next);
    }
    let words: BTreeSet<_> = all.iter().map(Refusal::label).collect();
    assert_eq!(words, BTreeSet::from(REJECTIONS));
}

#[test]
fn enrol_labels_are_complete_and_in_order() {
    let cause = || Cause::from("cause");
    let mut all = vec![EnrolError::NotEnrolled];
    while let Some(next) = match all[all.len() - 1] {
        EnrolError::NotEnrolled => Some(EnrolError::Closed),
        EnrolError::Closed => Some(EnrolError::NoClientCertificate),
        EnrolError::NoClientCertificate => Some(EnrolError::Domain),
        EnrolError::Domain => Some(EnrolError::Dismissed),
        EnrolError::Dismissed => Some(EnrolError::Busy(Duration::ZERO)),
        EnrolError::Busy(_) => Some(EnrolError::NoLength),
        EnrolError::NoLength => Some(EnrolError::TooLarge(0)),
        EnrolError::TooLarge(_) => Some(EnrolError::BodyTimeout(Duration::ZERO)),
        EnrolError::BodyTimeout(_) => Some(EnrolError::BodyLost(cause())),
        EnrolError::BodyLost(_) => Some(EnrolError::Malformed(cause())),
        EnrolError::Malformed(_) => Some(EnrolError::Unreadable("ca", String::new())),
        EnrolError::Unreadable(..) => Some(EnrolError::WrongKey),
        EnrolError::WrongKey => Some(EnrolError::WrongCa),
        EnrolError::WrongCa => Some(EnrolError::NotValidNow),
        EnrolError::NotValidNow => Some(EnrolError::Unusable(cause())),
        EnrolError::Unusable(_) => Some(EnrolError::ForeignCa),
        EnrolError::ForeignCa => Some(EnrolError::Older),
        EnrolError::Older => Some(EnrolError::AlreadyEnrolled),
        EnrolError::AlreadyEnrolled => Some(EnrolError::Key(cause())),
        EnrolError::Key(_) => Some(EnrolError::Store(io::ErrorKind::Other.into())),
        EnrolError::Store(_) => Some(EnrolError::NoResources(cause())),
        EnrolError::NoResources(_) => Some(EnrolError::GivenUp),
        EnrolError::GivenUp => None,
    } {
        all.push(next);
    }
    let words: Vec<_> = all.iter().map(EnrolError::label).collect();
    assert_eq!(words, EnrolError::LABELS);
}

#[cfg(unix)]
#[test]
fn errors_about_descriptors_and_memory_count_as_a_lack_of_resources() {
    for number in [libc::ENFILE, libc::EMFILE, libc::ENOBUFS, libc::ENOMEM] {
        assert!(lacks_resources(&io::Error::from_raw_os_error(number)), "{number}");
    }
    assert!(lacks_resources(&io::ErrorKind::OutOfMemory.into()));
    for other in [io::Error::from_raw_os_error(libc::ECONNREFUSED), io::ErrorKind::Other.into()] {
        assert!(!lacks_resources(&other), "{other}");
    }
}

#[test]
fn blame_and_integrity_faults_have_their_words_in_the_log() {
    let blamed = [Blame::Downstream, Blame::Upstream, Blame::Proxy].map(Blame::label);
    assert_eq!(blamed, ["scraper", "exporter", "proxy"]);
    for (fault, expected) in [
        (IntegrityFault::NoEofMarker, "exporter's answer is OpenMetrics without a final `# EOF`"),
        (
            IntegrityFault::NoFinalNewline,
            "exporter's answer ended when the connection closed, without a final newline",
        ),
    ] {
        assert_eq!(Abort::Integrity(fault).to_string(), expected);
    }
}
