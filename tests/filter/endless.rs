//! Lines without an end. They pass or are left out while they arrive, in bounded memory.

use std::{io, time::Duration};

use scrapegate_harness::{
    exporter::Conversation,
    testbed::{
        Action, Testbed, assert_control, assert_refused, assert_truncated, by_case, outcome, target,
    },
};

use crate::chains;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";

/// Sends `begin`, and then `filler` until the proxy closes the connection.
fn endless(begin: &'static str, filler: &'static str) -> Action {
    Box::new(move |it: &mut Conversation| -> io::Result<()> {
        it.send(format!("{HEAD}{begin}"))?;
        let filler = filler.repeat(4096);
        loop {
            it.send(&filler)?;
        }
    })
}

/// A story, the beginning of the line, what it continues with, and whether the line passes if
/// `left_…` is left out.
const LINES: [(&str, &str, &str, bool); 9] = [
    ("a label of a family that passes", "kept{a=\"", "x", true),
    ("a label of a family that is left out", "left_a{a=\"", "x", false),
    ("a help text that passes", "# HELP kept ", "x", true),
    ("a help text that is left out", "# HELP left_a ", "x", false),
    ("a value", "kept ", "1", true),
    ("a comment", "# ", "x", true),
    ("a name", "", "a", false),
    ("a quoted name", "{\"", "a", false),
    ("labels before a quoted name", "{", "a=\"b\",", false),
];

#[test]
fn lines_without_an_end_take_no_memory_and_end_at_max_body_or_at_the_deadline() {
    const LIMIT: u64 = 20_000_000;
    for chain in chains().into_iter().filter(|chain| chain.drops == Some("left_.*")) {
        let actions = || LINES.map(|(_, begin, filler, _)| endless(begin, filler)).into();
        let keys = format!("{}max-body = {LIMIT}\n", chain.keys());
        let by_size = Testbed::new(&keys, by_case(actions()));
        let keys = format!("{}timeout = 0.5\n", chain.keys());
        let by_time = Testbed::new(&keys, by_case(actions()));
        for (testbed, is_late) in [(by_size, false), (by_time, true)] {
            assert_control(&mut testbed.client(), "x");
            let before = testbed.proxy.peak_rss_kib();
            for (case, (story, begin, _, passes)) in LINES.into_iter().enumerate() {
                let story = format!("{chain:?}, {story}, late: {is_late}");
                let mut client = testbed.client();
                chain.ask(&mut client, &target("x", case));
                let response = client.read_response().expect("an answer");
                let reason = if is_late {
                    "nothing of the exporter's answer passed in time"
                } else {
                    "exporter's answer is larger than max-body"
                };
                // An encoder makes less than a block of such a line.
                if passes && (chain.coding.is_none() || response.head.status == 200) {
                    assert_eq!(response.head.status, 200, "{story}: {response:?}");
                    assert_truncated(&story, &response.body.end);
                    let (bytes, is_clean) = chain.decoded(&response.body);
                    assert!(bytes.starts_with(begin.as_bytes()), "{story}: {response:?}");
                    assert_ne!(is_clean, Some(true), "{story}: {response:?}");
                } else {
                    assert_refused(&story, &response, if is_late { 504 } else { 502 }, reason);
                }
            }
            let grown = testbed.proxy.peak_rss_kib() - before;
            assert!(grown < 8 * 1024, "{chain:?}: the peak memory grew by {grown} KiB");
            let records = testbed.scrapes(LINES.len() + 1);
            for (record, (story, .., passes)) in records[1..].iter().zip(LINES) {
                let story = format!("{chain:?}, {story}: {record}");
                let expected = match (passes, is_late) {
                    (true, false) => &["too_large", "exporter_too_large"][..],
                    (false, false) => &["exporter_too_large"],
                    // The side that the scrape waits for at the deadline is random.
                    (true, true) => {
                        &["deadline_exporter", "deadline_scraper", "exporter_nothing_passed"]
                    }
                    (false, true) => &["exporter_nothing_passed"],
                };
                assert!(expected.contains(&outcome(record)), "{story}");
                let most = Duration::from_secs(5).as_secs_f64();
                assert!(record["seconds"].as_f64().is_some_and(|it| it < most), "{story}");
            }
        }
    }
}
