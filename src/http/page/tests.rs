use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32},
};

use super::*;
use crate::{
    common::{
        compression::CompressionRules,
        deadline::Budget,
        exporter::{Exporter, ExporterName, ExporterPath, Integrity, ScrapeRules, Target},
    },
    scrape::{
        encoding::Encoding,
        ledger::COMPLETE,
        phase::{Phase, PhaseDurations},
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn exporter(name: &str) -> ActiveExporter {
    let budget = |seconds| Budget::new(SECOND * seconds).expect("a budget");
    let rules = ScrapeRules {
        interval: budget(15),
        timeout: budget(5),
        connect_timeout: budget(1),
        max_concurrent: NonZeroU32::MIN,
        max_body: None,
        forward_params: true,
        integrity: Integrity::Strict,
        compression: CompressionRules::default(),
        families: None,
    };
    let target = Target::Tcp { host: "localhost".to_owned(), port: NonZeroU16::MIN };
    let name = ExporterName::new(name).expect("a name");
    let path = ExporterPath::new("/metrics").expect("a path");
    Exporter { name, target, tls: None, path, authorization: None, rules }.into()
}

fn scraped(exporter: &ActiveExporter, now: Now, outcome: &'static str) {
    changed(exporter, now, outcome, (8_700_000, 0));
}

/// The same, with this number of bytes from the exporter, and of families that were left out.
fn changed(
    exporter: &ActiveExporter,
    now: Now,
    outcome: &'static str,
    (received, families_dropped): (u64, u64),
) {
    let mut phases = PhaseDurations::default();
    phases.add(Phase::FirstByte, SECOND);
    phases.add(Phase::WriteWait, SECOND * 2);
    exporter.state.ledger.begin(now.instant);
    exporter.state.ledger.end(ScrapeRecord {
        outcome,
        truncated: false,
        length_ignored: false,
        families_dropped,
        success: outcome == COMPLETE,
        bytes: 8_700_000,
        received,
        encoding: Some(Encoding::Identity),
        took: SECOND * 3,
        phases,
        ended: now.time,
    });
}

fn now() -> Now {
    Now { instant: Instant::now(), time: SystemTime::now() }
}

const RELOADED: ReloadState = ReloadState { last_failed: false, applied_at: UNIX_EPOCH };

fn expiries() -> Expiries {
    Expiries {
        certificates: BTreeMap::from([("/a.crt".to_owned(), 4_000_000_000)]),
        revocation_lists: BTreeMap::new(),
    }
}

fn page(exporters: &[ActiveExporter], now: Now) -> String {
    status(exporters.iter(), &expiries(), RELOADED, now)
}

#[test]
fn each_state_has_its_text() {
    let begun = now();
    let (up, failing, never) = (exporter("up"), exporter("down"), exporter("new"));
    scraped(&up, begun, COMPLETE);
    scraped(&failing, begun, "exporter_refused");
    let all = [up, failing, never];
    let fresh = page(&all, begun);
    assert!(fresh.contains("<p>3 exporters: 1 up, 1 failing, 1 not scraped yet</p>"), "{fresh}");
    assert!(fresh.contains("failing: exporter refused"), "{fresh}");
    assert!(fresh.contains("3.0 s: exporter 1.0 s, network 2.0 s"), "{fresh}");
    assert!(fresh.contains("8.7 MB"), "{fresh}");
    let late = Now { instant: begun.instant + SECOND * 46, time: begun.time + SECOND * 46 };
    let late = page(&all, late);
    assert!(late.contains("<p>3 exporters: 1 failing, 3 overdue</p>"), "{late}");
    assert!(late.contains("46 s ago"), "{late}");
}

/// The state lines of the exporters, in order.
fn states(page: &str) -> Vec<(&str, &str)> {
    page.split("<p class=\"state ")
        .skip(1)
        .map(|line| {
            let (class, rest) = line.split_once("\">").expect("a tag");
            (class, rest.split('<').next().unwrap_or_default())
        })
        .collect()
}

#[test]
fn f36_an_overdue_and_failing_exporter_shows_both_the_failure_first() {
    let begun = now();
    let late = Now { instant: begun.instant + SECOND * 46, time: begun.time + SECOND * 46 };
    let overdue = ("overdue", "overdue: expected every 15 s, but not scraped");
    let one = |outcome: Option<&'static str>, now| {
        let exporter = exporter("x");
        if let Some(outcome) = outcome {
            scraped(&exporter, begun, outcome);
        }
        page(&[exporter], now)
    };

    let both = one(Some("exporter_refused"), late);
    assert_eq!(states(&both), [("failing", "failing: exporter refused"), overdue], "{both}");
    assert!(both.contains("<li class=\"failing\">"), "{both}");
    assert!(both.contains("<p>1 exporter: 1 failing, 1 overdue</p>"), "{both}");

    // After an old success, and without any scrape, the exporter is only overdue.
    for outcome in [Some(COMPLETE), None] {
        let only = one(outcome, late);
        assert_eq!(states(&only), [overdue], "{only}");
        assert!(only.contains("<li class=\"overdue\">"), "{only}");
    }
    assert_eq!(states(&one(Some(COMPLETE), begun)), [("up", "up")]);
    assert_eq!(states(&one(None, begun)), [("never", "not scraped yet")]);
}

#[test]
fn names_are_text_and_not_markup() {
    let hostile = exporter("<script>alert(1)</script>\"'&");
    let page = page(&[hostile], now());
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;'&amp;"), "{page}");
}

#[test]
fn the_chart_shows_the_last_scrapes_and_marks_failures() {
    let now = now();
    let exporter = exporter("x");
    for _ in 0..RECENT_AND_MORE {
        scraped(&exporter, now, COMPLETE);
    }
    scraped(&exporter, now, "exporter_reset");
    let page = page(&[exporter], now);
    let bars = |class: &str| page.matches(&format!("<rect class=\"{class}\"")).count();
    assert_eq!(bars("failed"), 1);
    assert_eq!((bars("exporter"), bars("network")), (39, 39));
    assert!(page.contains("aria-label=\"40 scrapes, 1 failed, the longest took 3.0 s\""), "{page}");
}

const RECENT_AND_MORE: usize = crate::scrape::ledger::RECENT + 5;

#[test]
fn certificates_near_expiry_and_a_failed_reload_are_highlighted() {
    let now = Now { instant: Instant::now(), time: UNIX_EPOCH + SECOND * 1_000_000_000 };
    let day = 24 * 3600;
    let expiries = Expiries {
        certificates: BTreeMap::from([
            ("expired".to_owned(), 1_000_000_000 - 1),
            ("soon".to_owned(), 1_000_000_000 + 13 * day),
            ("later".to_owned(), 1_000_000_000 + 15 * day),
        ]),
        ..expiries()
    };
    let reload = ReloadState { last_failed: true, ..RELOADED };
    let page = status([].iter(), &expiries, reload, now);
    assert_eq!(page.matches("class=\"late\"").count(), 1, "{page}");
    assert_eq!(page.matches("class=\"bad\"").count(), 2, "{page}");
    assert!(page.contains("The last reload failed"), "{page}");
    assert!(page.contains("0 exporters</p>") && page.contains("No exporter is enabled."), "{page}");
}

#[test]
fn f13_revocation_lists_near_expiry_are_highlighted() {
    let now = Now { instant: Instant::now(), time: UNIX_EPOCH + SECOND * 1_000_000_000 };
    let expiries = Expiries {
        revocation_lists: BTreeMap::from([
            ("/past.crl".to_owned(), 1_000_000_000 - 1),
            ("/soon.crl".to_owned(), 1_000_000_000 + 5 * 3600),
            ("/later.crl".to_owned(), 1_000_000_000 + 7 * 3600),
        ]),
        ..expiries()
    };
    let page = status([].iter(), &expiries, RELOADED, now);
    let assert_once = |class: &str, words: &str| {
        assert_eq!(page.matches(&format!("class=\"{class}\">{words}")).count(), 1, "{page}");
    };
    assert_once("bad", "revocation list expired on ");
    assert_once("late", "revocation list valid until ");
    assert_eq!(page.matches("revocation list valid until ").count(), 2, "{page}");
}

#[test]
fn the_policy_permits_only_the_style_sheet() {
    let policy = &*CONTENT_SECURITY_POLICY;
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('\n'), "{policy}");
}

#[test]
fn what_was_changed_in_a_body_on_its_way_is_shown() {
    let begun = now();
    let (same, other) = (exporter("same"), exporter("other"));
    scraped(&same, begun, COMPLETE);
    changed(&other, begun, COMPLETE, (97_000_000, 12));
    let page = page(&[same, other], begun);
    assert!(page.contains("<dd>8.7 MB</dd>"), "{page}");
    assert!(page.contains("<dd>8.7 MB of 97.0 MB from the exporter</dd>"), "{page}");
    assert_eq!(page.matches("<dt>Left out</dt><dd>12 metric families</dd>").count(), 1, "{page}");
}
