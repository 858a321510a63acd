//! `scrapegate probe --save` and `--compare`.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use scrapegate_harness::exporter::{Conversation, Exporter};
use serde_json::{Value, json};

use crate::probe::{Probed, SOUND, TEXT, answering, perfdata};

/// The exporter's response time. The saved times that are compared with it are much shorter or much
/// longer.
const TAKES: Duration = Duration::from_millis(50);

fn slow_exporter() -> Exporter {
    Exporter::start(|conversation: &mut Conversation| {
        conversation.read_request()?;
        thread::sleep(TAKES);
        let length = SOUND.len();
        conversation
            .send(format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: {length}\r\n\r\n{SOUND}"))
    })
}

/// Modifies the saved measurement.
fn edit(file: &str, change: impl FnOnce(&mut Value)) {
    let mut saved: Value = serde_json::from_slice(&fs::read(file).expect("saved")).expect("JSON");
    change(&mut saved);
    fs::write(file, saved.to_string()).expect("written");
}

fn set_times(file: &str, seconds: [f64; 5]) {
    edit(file, |saved| {
        saved["direct"]["total_seconds"] = json!(seconds);
        saved["direct"]["first_byte_seconds"] = json!(seconds);
    });
}

#[test]
fn a_slower_exporter_is_a_warning_and_a_faster_or_unchanged_one_is_not() {
    let exporter = slow_exporter();
    let probed = Probed::of(&exporter, "");
    let file = probed.path("saved.json");
    assert_eq!(probed.probe(&["--repeat", "5", "--save", &file]).code, Some(0));

    // Equal within this tolerance, even on a busy machine.
    let same = probed.json(0, &["--repeat", "5", "--compare", &file, "--tolerance", "9999"]);
    let verdict = same["comparison"]["direct"]["total"]["verdict"].as_str().expect("a word");
    assert!(["within_noise", "within_tolerance", "faster"].contains(&verdict), "{verdict}");
    assert_eq!(same["comparison"]["new_families"], json!([]));

    set_times(&file, [0.001; 5]);
    let ended = probed.probe(&["--repeat", "5", "--compare", &file]);
    assert_eq!(ended.code, Some(1), "{:#?}", ended.out);
    let line = ended.out.last().expect("a line");
    assert!(line.starts_with("PROBE WARNING - e: total slower by "), "{line}");
    assert!(line.contains("(median 1.0 ms → "), "{line}");
    assert!(perfdata(line, "slower") > 100.0, "{line}");

    set_times(&file, [30.0; 5]);
    let faster = probed.json(0, &["--repeat", "5", "--compare", &file]);
    assert_eq!(faster["comparison"]["direct"]["total"]["verdict"], "faster");

    // The same difference as before, but these runs are too noisy for a verdict.
    set_times(&file, [0.001, 0.001, 0.03, 9.0, 9.0]);
    let noisy = probed.json(0, &["--repeat", "5", "--compare", &file, "--tolerance", "0"]);
    assert_ne!(noisy["comparison"]["direct"]["total"]["verdict"], "slower", "{noisy}");
}

#[test]
fn growth_is_reported_with_new_and_removed_families() {
    let grown = Arc::new(AtomicBool::new(false));
    let has_grown = Arc::clone(&grown);
    let exporter = Exporter::start(move |conversation: &mut Conversation| {
        let more = has_grown.load(Ordering::SeqCst);
        let body = if more {
            SOUND.replace("wait", "idle") + "up{again=\"yes\"} 1\nnew 1\n"
        } else {
            SOUND.to_owned()
        };
        answering(TEXT, body)(conversation)
    });
    let probed = Probed::of(&exporter, "");
    let file = probed.path("saved.json");
    assert_eq!(probed.probe(&["--save", &file]).code, Some(0));
    grown.store(true, Ordering::SeqCst);
    let ended = probed.probe(&["--compare", &file, "--tolerance", "10000"]);
    let said = ended.out.join("\n");
    for words in [
        "grew by 12.9 % (186 bytes → 210 bytes)",
        "grew by 40.0 % (5 → 7)",
        "grew by 50.0 % (2 → 3)",
        "new families        idle_seconds, new",
        "removed families    wait_seconds",
        "up: 1 → 2 series",
        "noise unknown: use --repeat",
    ] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
}

#[test]
fn a_comparison_through_the_proxy_has_a_separate_verdict() {
    let exporter = slow_exporter();
    let probed = Probed::of(&exporter, "");
    let file = probed.path("saved.json");
    let arguments = ["--through-proxy", "--repeat", "5"];
    let saved = probed.probe(&[&arguments[..], &["--save", &file]].concat());
    assert_eq!(saved.code, Some(0), "{:#?}", saved.out);
    edit(&file, |saved| {
        saved["direct"]["total_seconds"] = json!([30.0, 30.0, 30.0, 30.0, 30.0]);
        saved["through_proxy"]["total_seconds"] = json!([0.001, 0.001, 0.001, 0.001, 0.001]);
    });
    let said = probed.json(1, &[&arguments[..], &["--compare", &file]].concat());
    assert_eq!(said["comparison"]["direct"]["total"]["verdict"], "faster");
    assert_eq!(said["comparison"]["through_proxy"]["total"]["verdict"], "slower");
    let summary = said["summary"].as_str().expect("words");
    assert!(summary.contains("through the proxy slower by "), "{summary}");
}

#[test]
fn an_unusable_baseline_is_unknown_and_no_request_is_sent() {
    let exporter = Exporter::start(answering(TEXT, SOUND));
    let probed = Probed::of(&exporter, "");
    let file = probed.path("saved.json");
    assert_eq!(probed.probe(&["--save", &file]).code, Some(0));
    let before = exporter.connections();
    let saved = fs::read(&file).expect("saved");
    for (text, words) in [
        (&b"{}"[..], "not a measurement"),
        (b"{\"version\": 2}", "the measurement has version 2"),
        (&saved[..saved.len() / 2], "not a measurement"),
    ] {
        fs::write(&file, text).expect("written");
        let ended = probed.probe(&["--compare", &file]);
        assert_eq!(ended.code, Some(3), "{:#?}", ended.out);
        assert!(ended.out[0].contains(words), "{:#?}", ended.out);
    }
    assert_eq!(exporter.connections(), before);
}

#[test]
fn a_failed_scrape_leaves_the_saved_measurement_unchanged() {
    let exporter = Exporter::start(answering(TEXT, SOUND));
    let probed = Probed::of(&exporter, "");
    let file = probed.path("saved.json");
    assert_eq!(probed.probe(&["--save", &file]).code, Some(0));
    let saved = fs::read(&file).expect("saved");
    let broken = Exporter::start(|conversation: &mut Conversation| {
        conversation.read_request()?;
        conversation.cut()
    });
    fs::write(probed.path("exporters.ini"), broken.section("e")).expect("written");
    assert_eq!(probed.probe(&["--save", &file]).code, Some(2));
    assert_eq!(fs::read(&file).expect("still there"), saved);
    // No temporary file is left in the folder.
    let folder = std::path::Path::new(&file).parent().expect("a folder");
    assert_eq!(fs::read_dir(folder).expect("a folder").count(), 2);
}
