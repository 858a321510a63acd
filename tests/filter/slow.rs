//! Exporters and scrapers that are slow, but not too slow.

use std::{fmt::Write as _, thread, time::Duration};

use scrapegate_harness::testbed::{Action, Testbed, by_case, outcome, target};

use crate::chains;

/// Lines of two families, by turns.
fn lines(number: usize) -> String {
    (0..number).fold(String::new(), |mut text, number| {
        let family = if number % 2 == 0 { "kept" } else { "left" };
        writeln!(text, "{family}_seconds{{number=\"{number}\"}} 0.{number}").expect("in memory");
        text
    })
}

fn head(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", text.len())
}

/// Sends the text in pieces of this size, with a pause after each.
fn in_pieces(text: String, size: usize, pause: Duration) -> Action {
    Box::new(move |it| {
        it.send(head(&text))?;
        for piece in text.as_bytes().chunks(size) {
            it.send(piece)?;
            thread::sleep(pause);
        }
        Ok(())
    })
}

#[test]
fn all_that_passes_arrives_from_an_exporter_that_sends_a_few_bytes_at_a_time() {
    let (many, few) = (lines(2000), lines(20));
    for chain in chains() {
        // Pauses that are shorter and longer than the wait before an encoder is flushed.
        let actions = vec![
            in_pieces(many.clone(), 97, Duration::from_micros(100)),
            in_pieces(few.clone(), 101, Duration::from_millis(200)),
        ];
        let testbed = Testbed::new(&chain.keys(), by_case(actions));
        let mut client = testbed.client();
        for (case, text) in [&many, &few].into_iter().enumerate() {
            chain.ask(&mut client, &target("x", case));
            let response = client.read_response().expect("an answer");
            assert!(response.body.is_complete(), "{chain:?}: {response:?}");
            let (bytes, is_clean) = chain.decoded(&response.body);
            assert_eq!(String::from_utf8_lossy(&bytes), chain.passed(text), "{chain:?}");
            assert_ne!(is_clean, Some(false), "{chain:?}");
        }
        for record in testbed.scrapes(2) {
            assert_eq!(outcome(&record), "complete", "{chain:?}: {record}");
        }
    }
}

#[test]
fn a_scraper_that_reads_late_gets_all_that_passes() {
    // More than the proxy and the kernel buffer for one scraper, unless it is compressed.
    let text = lines(200_000);
    for chain in chains() {
        let answer = text.clone();
        let action: Action = Box::new(move |it| it.send(head(&answer) + &answer));
        let testbed = Testbed::new(&chain.keys(), by_case(vec![action]));
        let mut client = testbed.client();
        chain.ask(&mut client, &target("x", 0));
        let head = client.read_head().expect("a head");
        // The kernel reports no event for full buffers.
        thread::sleep(Duration::from_millis(100));
        let body = client.read_body(&head);
        assert!(body.is_complete(), "{chain:?}: {body:?}");
        let expected = chain.passed(&text);
        let (bytes, is_clean) = chain.decoded(&body);
        assert!(expected.as_bytes().starts_with(&bytes), "{chain:?}: {body:?}");
        match is_clean {
            Some(is_clean) => {
                assert!(is_clean || body.bytes > body.start.len() as u64, "{chain:?}")
            }
            None => assert_eq!(body.bytes, expected.len() as u64, "{chain:?}"),
        }
        let record = &testbed.scrapes(1)[0];
        assert_eq!(outcome(record), "complete", "{chain:?}: {record}");
        assert_eq!(record["received_bytes"], text.len() as u64, "{chain:?}: {record}");
    }
}
