//! The first scrape of the README, in the steps of a reader: the two files, then each command.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use scrapegate_harness::{
    body::Body,
    exporter::{Conversation, Exporter, Framing},
    log::LineLog,
    proxy::binary,
};
use tempfile::TempDir;

use crate::Killed;

/// The fenced blocks of a language in the section "First scrape".
fn blocks(language: &str) -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("UTF-8");
    let (_, section) = readme.split_once("\n## First scrape\n").expect("the section");
    let section = section.split("\n## ").next().expect("a first part");
    let fence = format!("```{language}\n");
    let blocks = section.split(fence.as_str()).skip(1);
    blocks.map(|rest| rest.split("```").next().expect("an end").to_owned()).collect()
}

/// The command in the README that starts with these words, without `scrapegate`.
fn command(start: &str) -> Vec<String> {
    let blocks = blocks("sh").concat();
    let mut lines = blocks.lines().filter(|line| line.starts_with(start));
    let line = lines.next().unwrap_or_else(|| panic!("no {start:?} in {blocks}"));
    line.split(' ').skip(1).map(str::to_owned).collect()
}

fn scrapegate(folder: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

#[track_caller]
fn succeed(folder: &Path, arguments: &[String]) -> Output {
    let output = scrapegate(folder, arguments).output().expect("the binary runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

#[test]
fn the_first_scrape_of_the_readme_works() {
    let exporter = Exporter::start(|it: &mut Conversation| {
        it.read_request()?;
        it.answer("", Framing::ContentLength, Body::text(6400))
    });
    let folder = TempDir::with_prefix("scrapegate-first-").expect("a temporary folder");
    let folder = folder.path();
    let [config, exporters] = &blocks("ini")[..] else { panic!("not two files") };
    let port = format!("port = {}", exporter.address().port());
    fs::write(folder.join("config.ini"), config).expect("written");
    fs::write(folder.join("prometheus_exporters.ini"), exporters.replace("port = 9100", &port))
        .expect("written");

    succeed(folder, &command("scrapegate certs"));
    let checked = succeed(folder, &command("scrapegate check"));
    assert!(checked.stderr.is_empty(), "{checked:?}");

    // A free port, because the port in the README may be in use on this host.
    let mut run = command("scrapegate run");
    run.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
    let child = scrapegate(folder, &run).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut child = Killed(child);
    let log = LineLog::follow("standard error", child.0.stderr.take().expect("piped"));
    let address = log.wait_for("its address", |line| {
        line.split_whitespace().find_map(|word| word.strip_prefix("address=").map(str::to_owned))
    });

    let get = command("scrapegate get");
    let url = address.replace("127.0.0.1", "https://localhost");
    let get: Vec<_> = get.iter().map(|word| word.replace("https://localhost:3333", &url)).collect();
    assert!(get.contains(&url), "{get:?}");
    let scraped = succeed(folder, &get);
    assert_eq!(scraped.stdout.len(), 6400);
    let said = String::from_utf8(scraped.stderr).expect("UTF-8");
    assert!(said.starts_with("scrapegate: complete: "), "{said}");
}
