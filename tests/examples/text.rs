//! Examples of output that scrapegate prints while it runs.

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
use scrapegate_harness::documents::{Block, root};

/// The longest time without a line from the demo.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn read(block: &Block) {
    if block.text.starts_with("scrapegate demo: ") {
        assert_of_the_demo(block);
    } else if block.text.contains(" scrape exporter=") {
        assert_of_the_log(block);
    } else if block.text.contains("---->") {
        assert_of_the_examples(block);
    } else {
        panic!("{block}: unknown kind of output");
    }
}

/// The demo prints the same lines, with other figures.
fn assert_of_the_demo(block: &Block) {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_scrapegate"))
        .args(["demo", "--listen", "127.0.0.1:0", "--series", "1000"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let out = BufReader::new(demo.stdout.take().expect("piped"));
    let (sender, lines) = mpsc::channel();
    // A separate thread allows a timeout, because the demo may never print the expected last line.
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
    kill(pid, Signal::SIGTERM).expect("a running process");
    let ended = demo.wait().expect("the child is ours");
    let shown: Vec<_> = block.text.lines().map(label).collect();
    assert_eq!(shown, printed, "{block}");
    assert!(ended.success(), "{ended}");
}

/// The part of a line that is the same in each run.
fn label(line: &str) -> String {
    line.trim().split("  ").next().unwrap_or_default().to_owned()
}

/// A picture of the data flow: its ports are those of the example files, and no line is too wide.
fn assert_of_the_examples(block: &Block) {
    let example = |file: &str| {
        let path = root().join("packaging/examples").join(file);
        fs::read_to_string(path).expect("an example")
    };
    let (config, exporters) = (example("config.ini"), example("prometheus_exporters.ini"));
    let words: Vec<&str> = block.text.split_whitespace().collect();
    let mut ports = 0;
    for pair in words.windows(2) {
        let [name, port] = pair else { continue };
        let Some(port) = port.strip_prefix(':') else { continue };
        let file = if *name == "scrapegate" { &config } else { &exporters };
        let section = file.split(&format!("[{name}]")).last().unwrap_or_default();
        assert!(section.contains(&format!("port = {port}\n")), "{block}: {name} :{port}");
        ports += 1;
    }
    assert!(ports > 1, "{block}: {ports} ports");
    assert!(block.text.lines().all(|line| line.chars().count() <= 100), "{block}: too wide");
}

/// Each field of the records has a row in the table of log fields.
fn assert_of_the_log(block: &Block) {
    let page = fs::read_to_string(root().join("docs/reference/logs.md")).expect("UTF-8");
    let (_, table) = page.split_once("\n| field | meaning |\n|---|---|\n").expect("a table");
    let rows = table.lines().map_while(|line| line.strip_prefix("| `")?.split('`').next());
    let known: BTreeSet<&str> = rows.collect();
    assert!(known.len() > 10, "{known:?}");
    for record in block.text.lines() {
        // Quoted values contain no quotes.
        let outside = record.split('"').step_by(2).collect::<String>();
        let keys = outside.split_whitespace().filter_map(|word| Some(word.split_once('=')?.0));
        let keys: Vec<&str> = keys.collect();
        assert!(keys.len() > 8, "{block}: {keys:?}");
        for key in keys {
            assert!(known.contains(key), "{block}: {key}");
        }
    }
}
