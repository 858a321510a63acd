//! Timers, ends and causes of a connection.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use tokio::time::advance;

use super::*;
use crate::{
    common::{
        deadline::Budget,
        peer::{Host, Peer},
    },
    http::answers::OwnAnswers,
    scrape::exporters::{self, ActiveExporter},
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn state() -> ConnectionState {
    ConnectionState::new(Timeouts { header: secs(1), idle: secs(2), stall: secs(3) })
}

fn relaying(state: &ConnectionState) {
    state.request_arrived();
    state.relaying(Deadline::after(Instant::now(), Budget::new(secs(5)).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn only_a_tls_violation_outside_of_a_scrape_counts_and_no_alert_or_reset() {
    let failed = |inner: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, inner);
    let after = |state: &ConnectionState, error: &io::Error| {
        state.read_failed(error);
        state.broken_tls()
    };
    let left = rustls::Error::AlertReceived(rustls::AlertDescription::UserCanceled);
    let reset = io::ErrorKind::ConnectionReset.into();
    let state = state();
    assert_eq!(after(&state, &failed(left)), None);
    assert_eq!(after(&state, &reset), None);
    relaying(&state);
    assert_eq!(after(&state, &failed(rustls::Error::DecryptError)), None);
    state.responding(ConnectionAfter::Keep);
    let broken = rustls::Error::DecryptError;
    assert_eq!(after(&state, &failed(broken.clone())), Some(broken.clone()));
    assert_eq!(after(&state, &reset), Some(broken));
}

/// The timer that expires next, and in how many seconds.
fn clock(state: &ConnectionState) -> Option<(u64, Ending)> {
    state.next_clock().map(|(at, ending)| ((at - Instant::now()).as_secs(), ending))
}

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_own_timer_and_is_visible_outside() {
    let state = state();
    let look = || (clock(&state), state.is_scraping(), state.owes_bytes());
    assert_eq!(look(), (Some((1, Ending::Header)), false, false));
    state.request_arrived();
    state.flushed();
    assert_eq!(look(), (None, true, false));
    state.responding(ConnectionAfter::Keep);
    assert_eq!(look(), (Some((3, Ending::Stall)), false, true));
    assert!(!state.refused_early());
    state.responding(ConnectionAfter::Close);
    state.responding(ConnectionAfter::Keep);
    assert!(state.refused_early());
    relaying(&state);
    // Not complete: no scrape was delivered.
    state.flushed();
    assert_eq!(look(), (Some((5, Ending::Deadline)), true, true));
}

#[tokio::test]
async fn the_beginning_of_each_answer_is_reported_once() {
    let state = state();
    assert!(!state.answer_has_begun());
    for begin in [relaying, |state: &ConnectionState| state.responding(ConnectionAfter::Keep)] {
        begin(&state);
        assert!(state.answer_has_begun());
        assert!(!state.answer_has_begun());
    }
}

#[tokio::test(start_paused = true)]
async fn the_stall_timer_runs_from_the_first_blocked_write_and_the_earliest_timer_wins() {
    let state = state();
    relaying(&state);
    state.socket_took_nothing();
    advance(secs(1)).await;
    state.socket_took_nothing();
    assert_eq!(clock(&state), Some((2, Ending::Stall)));
    state.socket_took_bytes(1);
    assert_eq!(clock(&state), Some((4, Ending::Deadline)));
    let due = Instant::now() + secs(4);
    assert_eq!(state.expired(due - Duration::from_nanos(1)), None);
    assert_eq!(state.expired(due), Some(Ending::Deadline));
    state.scraper_left();
    let left = Instant::now();
    advance(secs(1)).await;
    state.scraper_left();
    assert_eq!(state.next_clock(), Some((left, Ending::Left)));
}

#[tokio::test(start_paused = true)]
async fn bytes_after_an_answered_request_start_the_next_head() {
    for (read, expected) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", (2, Ending::Idle)),
        ("GET / HTTP/1.1\nHost: h\n\n", (2, Ending::Idle)),
        ("GET / HTTP/1.1\r\n\r\nG", (1, Ending::Header)),
        ("GET / HTTP/1.1\r\n\r\nG\r\n", (1, Ending::Header)),
    ] {
        for split in [1, 2, 3, 100] {
            let state = state();
            for piece in read.as_bytes().chunks(split) {
                state.bytes_read(piece);
            }
            state.request_arrived();
            state.responding(ConnectionAfter::Keep);
            state.write_blocked();
            assert_eq!(state.room(), None);
            state.flushed();
            assert!(state.room().is_some());
            assert_eq!(clock(&state), Some(expected), "{read:?} by {split}");
            advance(Duration::from_millis(500)).await;
            state.bytes_read(b"G");
            let begun = if expected.1 == Ending::Idle { 1000 } else { 500 };
            let due = Instant::now() + Duration::from_millis(begun);
            assert_eq!(state.next_clock(), Some((due, Ending::Header)), "{read:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_aborted_response_has_the_cause_of_its_end() {
    for (ending, waiting_for, cause) in [
        (Ending::Deadline, None, Abort::DeadlineExporter),
        (Ending::Deadline, Some(Phase::Connect), Abort::DeadlineExporter),
        (Ending::Deadline, Some(Phase::ReadWait), Abort::DeadlineExporter),
        (Ending::Deadline, Some(Phase::WriteWait), Abort::DeadlineScraper),
        (Ending::Stall, Some(Phase::ReadWait), Abort::ScraperStalled),
        (Ending::Shutdown, Some(Phase::WriteWait), Abort::Shutdown),
        (Ending::Left, None, Abort::ScraperGone),
    ] {
        let state = state();
        assert_eq!(abort_cause(None, waiting_for), Abort::ScraperGone);
        relaying(&state);
        state.end(ending);
        assert_eq!(abort_cause(Some(ending), waiting_for), cause, "{ending:?}, {waiting_for:?}");
        assert!(state.resets_on_close());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_reset_during_a_response_and_closed_between_two() {
    let idle = state();
    idle.end(Ending::Idle);
    assert!(!idle.resets_on_close());
    let responding = state();
    responding.responding(ConnectionAfter::Keep);
    responding.end(Ending::Stall);
    assert!(responding.resets_on_close());
    let aborted = state();
    aborted.reset_on_close();
    aborted.end(Ending::Idle);
    assert!(aborted.resets_on_close());
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_the_socket_did_not_take_is_recorded_before_the_reset() {
    let exporter = Arc::new(ActiveExporter::from(exporters::fixture::exporter()));
    let peer = Arc::new(Peer { address: ([127, 0, 0, 1], 1).into(), identity: None });
    let state = state();
    state.request_arrived();
    state.delivery().begin(Arc::clone(&exporter), peer, Instant::now().into_std());
    state.relaying(Deadline::after(Instant::now(), Budget::new(secs(5)).unwrap()));
    state.delivery().whole();
    state.end(Ending::Stall);
    let outcomes = exporter.state.ledger.snapshot().outcomes;
    assert_eq!(outcomes.get("scraper_stalled"), Some(&1), "{outcomes:?}");
    assert!(state.resets_on_close());
}

#[tokio::test(start_paused = true)]
async fn a_scraper_counts_as_near_until_the_stream_reports_how_far_it_is() {
    let state = state();
    assert!(!state.link().is_far);
    state.connected_over(Link { is_far: true });
    assert!(state.link().is_far);
}

#[tokio::test(start_paused = true)]
async fn f23_a_page_counts_until_the_socket_has_accepted_all_of_it() {
    const LARGE: u64 = 1 << 30;
    let host = Host::of([192, 0, 2, 1].into());
    let answers = Arc::<OwnAnswers>::default();
    let state = state();
    state.request_arrived();
    state.holds(answers.hold(host, LARGE).unwrap());
    assert!(!answers.has_room(host), "the page is not sent yet");
    state.responding(ConnectionAfter::Keep);
    state.write_blocked();
    assert!(!answers.has_room(host), "the socket is full");
    state.flushed();
    assert!(answers.has_room(host));
}
