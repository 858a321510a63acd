//! The process: how it starts, its messages if it does not start, and how it ends.

mod certificates;
mod check;
mod drains;
mod files;
mod first_scrape;
mod folders;
mod full_disk;
mod get;
mod get_blame;
mod import;
mod killed;
mod logs;
mod pem_files;
mod probe;
mod probe_compare;
mod restart;
mod sd;
mod secrets;
mod service;
mod shutdown;
mod stalled_log;
mod start;
mod threads;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::{PATIENCE, log::LineLog, proxy::binary};
use tempfile::TempDir;

/// A configuration without certificates.
const PLAIN_HTTP: &str = "[proxy]\ninsecure-plain-http = True\nlog-format = json\n";

/// The exit status and the output of a command.
struct Ended {
    code: Option<i32>,
    out: Vec<String>,
    err: Vec<String>,
}

impl Ended {
    /// All lines on standard error, joined.
    fn errors(&self) -> String {
        self.err.join("\n")
    }
}

/// Runs the binary until it exits.
///
/// # Panics
/// With the output, if the command does not exit.
#[track_caller]
fn run<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Ended {
    run_command(&binary(), arguments)
}

/// The same with another program, which may start the binary.
#[track_caller]
fn run_command<'a>(program: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Ended {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut child = Killed(child);
    let out = LineLog::follow("standard output", child.0.stdout.take().expect("piped"));
    let err = LineLog::follow("standard error", child.0.stderr.take().expect("piped"));
    err.wait_for_end();
    out.wait_for_end();
    let code = child.0.wait().expect("the child is ours").code();
    Ended { code, out: out.lines(), err: err.lines() }
}

/// Polls until `is_so` returns true. Only for conditions without an event to wait for.
#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A child process that is killed when the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Fails if the child has exited already, which is the usual case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with the two INI files.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new(config: &str, exporters: &str) -> Self {
        let folder = TempDir::with_prefix("scrapegate-process-").expect("a temporary folder");
        let files = Self { folder };
        files.write("config.ini", config);
        files.write("prometheus_exporters.ini", exporters);
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
        if text.contains("\nauth =") {
            set_mode(&self.path(name), 0o600);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> String {
        self.path("config.ini").display().to_string()
    }

    #[track_caller]
    fn check(&self) -> Ended {
        run(["check", "--config", &self.config()])
    }

    /// Runs `scrapegate run`. The listen address is a free port, in case the start succeeds by
    /// mistake.
    #[track_caller]
    fn run(&self) -> Ended {
        run(["run", "--config", &self.config(), "--listen", "127.0.0.1:0"])
    }

    /// Runs a command as a user to whom file modes and privileged ports apply. Root may do
    /// anything.
    #[track_caller]
    fn run_as_nobody(&self, command: &[&str]) -> Ended {
        let config = self.config();
        let command = [command, &["--config", &config]].concat();
        let is_root = fs::metadata(&config).expect("an existing path").uid() == 0;
        if !is_root {
            return run(command);
        }
        set_mode(self.folder.path(), 0o755);
        // This user may have no access to the folder in which the binary was built.
        let copy = self.path("scrapegate");
        if !copy.exists() {
            fs::copy(binary(), &copy).expect("copied");
        }
        let copy = copy.display().to_string();
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", &copy];
        run_command("setpriv".as_ref(), [&nobody[..], &command].concat())
    }

    /// Asserts that `check` and `run` refuse the files, each with a line that contains all of
    /// `words`.
    #[track_caller]
    fn assert_mistake(&self, words: &[&str]) {
        let has_line =
            |lines: &[String]| lines.iter().any(|line| words.iter().all(|it| line.contains(it)));
        let checked = self.check();
        assert_eq!(checked.code, Some(1), "{:#?}", checked.out);
        assert!(has_line(&checked.out), "{words:?} not in {:#?}", checked.out);
        let ran = self.run();
        assert_eq!(ran.code, Some(78), "{:#?}", ran.err);
        assert!(has_line(&ran.err), "{words:?} not in {:#?}", ran.err);
        assert!(ran.out.is_empty(), "{:#?}", ran.out);
    }
}

/// The number of the line that starts with `start`, in the format of findings.
#[track_caller]
fn line_of(text: &str, start: &str) -> usize {
    text.lines().position(|line| line.starts_with(start)).expect("a line with this start") + 1
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a new mode");
}
