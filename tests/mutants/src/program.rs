//! The test programs.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{Failure, tree::messages};

/// Tests that run at a time in one program.
const THREADS: &str = "--test-threads=4";

/// The name of the program with the unit tests.
pub(crate) const UNIT_TESTS: &str = "lib";

/// A test program that is built.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: String,
    executable: PathBuf,
    /// The root of the tree.
    root: PathBuf,
}

/// How a run of tests ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Passed,
    /// A test failed, or the process died, so that no test is named.
    Failed(Option<String>),
    TimedOut,
}

/// Builds the programs of these names.
pub(crate) fn build(root: &Path, names: &[&str]) -> Result<Option<Vec<Program>>, Failure> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["test", "--quiet", "--no-run", "--message-format=json"]);
    for name in names {
        match *name {
            UNIT_TESTS => command.arg("--lib"),
            name => command.arg(format!("--test={name}")),
        };
    }
    let output = command.stderr(Stdio::null()).output()?;
    if !output.status.success() {
        return Ok(None);
    }
    let mut programs = Vec::new();
    for message in messages(&output.stdout) {
        let Some(executable) = message["executable"].as_str() else { continue };
        if message["profile"]["test"] != true {
            continue;
        }
        let is_library = message["target"]["kind"][0] == "lib";
        let target = message["target"]["name"].as_str().unwrap_or_default();
        programs.push(Program {
            name: if is_library { UNIT_TESTS } else { target }.to_owned(),
            executable: executable.into(),
            root: root.to_owned(),
        });
    }
    Ok(Some(programs))
}

impl Program {
    /// The tests that are not ignored.
    pub(crate) fn tests(&self) -> Result<Vec<String>, Failure> {
        let list = |options: &[&str]| -> Result<Vec<String>, Failure> {
            let output =
                self.command().args(["--list", "--format=terse"]).args(options).output()?;
            let text = String::from_utf8(output.stdout)?;
            Ok(text
                .lines()
                .filter_map(|line| line.strip_suffix(": test"))
                .map(Into::into)
                .collect())
        };
        let ignored: HashSet<String> = list(&["--ignored"])?.into_iter().collect();
        let mut tests = list(&[])?;
        tests.retain(|test| !ignored.contains(test));
        Ok(tests)
    }

    /// Runs `tests` until the first one fails.
    pub(crate) fn run(
        &self,
        tests: &[&str],
        variables: &[(&str, OsString)],
        limit: Duration,
    ) -> Result<End, Failure> {
        // The tests leave their files there if they are killed.
        let scratch = tempfile::tempdir()?;
        let mut command = self.command();
        command.arg("--exact").arg(THREADS).args(tests).envs(variables.iter().cloned());
        command.env("TMPDIR", scratch.path()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let end = watch(&mut child, limit);
        kill_group(&child);
        child.wait()?;
        end
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.root).env("CARGO_MANIFEST_DIR", &self.root);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// Waits for the end of the process, or for the first line about a failed test.
fn watch(child: &mut Child, limit: Duration) -> Result<End, Failure> {
    let (sender, lines) = mpsc::channel();
    let output = child.stdout.take().ok_or("no standard output")?;
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let started = Instant::now();
    loop {
        // Processes that a test left behind may hold the other end of the pipe.
        let mut exited = child.try_wait()?;
        match lines.recv_timeout(Duration::from_millis(20)) {
            Ok(line) => match failed_test(&line) {
                Some(test) => return Ok(End::Failed(Some(test.to_owned()))),
                None => continue,
            },
            Err(RecvTimeoutError::Disconnected) if exited.is_none() => exited = Some(child.wait()?),
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {}
        }
        match exited {
            Some(status) if status.success() => return Ok(End::Passed),
            Some(_) => return Ok(End::Failed(None)),
            None if started.elapsed() > limit => return Ok(End::TimedOut),
            None => {}
        }
    }
}

fn failed_test(line: &str) -> Option<&str> {
    let test = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(test.split(" - should panic").next().unwrap_or(test))
}

/// Kills the test program and the processes that it has started.
fn kill_group(child: &Child) {
    if let Ok(id) = i32::try_from(child.id()) {
        // The group may be gone already.
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
}

/// An empty file that any process may write to.
pub(crate) fn record_file(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, "")?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o666))?)
}
