//! Rows, texts and the classification of causes.

use std::{collections::BTreeSet, io};

use super::*;

#[test]
fn the_rows_of_a_refusal_include_those_of_the_errors_that_it_contains() {
    let nested = [
        (Refusal::from(Unchecked::TooLate), Unchecked::TooLate.info()),
        (Refusal::from(EnrolError::Closed), EnrolError::Closed.info()),
        (Refusal::from(UpstreamError::Closed), UpstreamError::Closed.info()),
        (Refusal::Version, Refusal::Version.info()),
    ];
    for (refusal, expected) in nested {
        assert_eq!(refusal.info(), expected);
        assert!(Refusal::infos().any(|info| info == expected), "{expected:?}");
    }
}

#[test]
fn one_label_has_one_blame_and_each_row_differs_from_the_others() {
    let all: Vec<_> = Refusal::infos().collect();
    for (at, info) in all.iter().enumerate() {
        assert!(!all[at + 1..].contains(info), "twice: {info:?}");
        for other in all.iter().filter(|other| other.label == info.label) {
            assert_eq!(other.blame, info.blame, "{info:?}");
        }
    }
    let labels: BTreeSet<_> = Abort::infos().map(|info| info.label).collect();
    assert_eq!(labels.len(), Abort::infos().count());
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

#[derive(Debug, thiserror::Error)]
#[error("{words}")]
struct Described {
    words: &'static str,
    source: Option<Box<Described>>,
}

#[test]
fn f29_a_chain_of_errors_does_not_repeat_text() {
    let described = |words, source| Described { words, source: Option::map(source, Box::new) };
    let missing = || described("the file does not exist", None);
    let chain = described("cannot read a: the file does not exist", Some(missing()));
    assert_eq!(Chain(&chain).to_string(), "cannot read a: the file does not exist");
    let chain = described("b", Some(described("cannot read a", Some(missing()))));
    assert_eq!(Chain(&chain).to_string(), "b: cannot read a: the file does not exist");
}
