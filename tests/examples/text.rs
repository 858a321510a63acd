//! What scrapegate prints while it runs.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::documents::{Block, root};

/// How long the demo may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn read(block: &Block) {
    if block.text.starts_with("scrapegate demo: ") {
        assert_of_the_demo(block);
    } else if block.text.contains(" scrape exporter=") {
        assert_of_the_log(block);
    } else {
        panic!("{block}: nobody reads this text");
    }
}

/// The demo has the same lines, with other figures.
fn assert_of_the_demo(block: &Block) {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_scrapegate"))
        .args(["demo", "--listen", "127.0.0.1:0", "--series", "1000"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let out = BufReader::new(demo.stdout.take().expect("piped"));
    let (sender, lines) = mpsc::channel();
    // A thread of its own: a last line that the demo does not have would be waited for in vain.
    thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|it| sender.send(it)));
    let last = block.text.lines().last().map(label);
    let mut printed = Vec::new();
    while let Ok(line) = lines.recv_timeout(PATIENCE) {
        printed.push(label(&line));
        if printed.last() == last.as_ref() {
            break;
        }
    }
    let pid = Pid::from_raw(demo.id().try_into().expect("a process id"));
    kill(pid, Signal::SIGTERM).expect("it runs");
    let ended = demo.wait().expect("the child is ours");
    let shown: Vec<_> = block.text.lines().map(label).collect();
    assert_eq!(shown, printed, "{block}");
    assert!(ended.success(), "{ended}");
}

/// A line without what differs from run to run.
fn label(line: &str) -> String {
    line.trim().split("  ").next().unwrap_or_default().to_owned()
}

/// Every field of its records has its row in the table of the log.
fn assert_of_the_log(block: &Block) {
    let page = fs::read_to_string(root().join("docs/reference/logs.md")).expect("UTF-8");
    let (_, table) = page.split_once("\n| field | meaning |\n|---|---|\n").expect("a table");
    let rows = table.lines().map_while(|line| line.strip_prefix("| `")?.split('`').next());
    let known: BTreeSet<&str> = rows.collect();
    assert!(known.len() > 10, "{known:?}");
    for record in block.text.lines() {
        // Values in quotes have no quotes in them.
        let outside = record.split('"').step_by(2).collect::<String>();
        let keys = outside.split_whitespace().filter_map(|word| Some(word.split_once('=')?.0));
        let keys: Vec<&str> = keys.collect();
        assert!(keys.len() > 8, "{block}: {keys:?}");
        for key in keys {
            assert!(known.contains(key), "{block}: {key}");
        }
    }
}
