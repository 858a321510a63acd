//! The real binary as a child process.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs::{self, DirEntry, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{log::LineLog, settled};

/// The binary under test: the one in `SCRAPEGATE_BIN`, or the one that cargo built for this test.
///
/// Cargo sets `CARGO_BIN_EXE_scrapegate` for the tests and benchmarks that it runs. A test program
/// that was started without cargo finds the binary in its own target folder.
///
/// # Panics
/// If there is no binary.
pub fn binary() -> PathBuf {
    let named = ["SCRAPEGATE_BIN", "CARGO_BIN_EXE_scrapegate"].into_iter().find_map(env::var_os);
    let path = named.map_or_else(built_with_this_program, PathBuf::from);
    assert!(
        path.is_file(),
        "no scrapegate binary at {}; run `cargo build` or set SCRAPEGATE_BIN",
        path.display()
    );
    path
}

/// Cargo puts the binary of a profile into `target/PROFILE`, and test programs into the folder
/// `deps` below it.
fn built_with_this_program() -> PathBuf {
    let program = env::current_exe().expect("the path of this program");
    let folder = program.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    folder.expect("a target folder").join("scrapegate").with_extension(env::consts::EXE_EXTENSION)
}

/// Arguments that make the proxy listen on a free loopback port.
pub const ANYWHERE: &[&str] = &["--listen", "127.0.0.1:0"];

/// A running proxy on a free loopback port. Dropping it kills the process.
pub struct Proxy {
    child: Child,
    /// The proxy's own process. With a wrapper, `child` is the wrapper's process.
    pid: u32,
    address: SocketAddr,
    log: LineLog,
    folder: TempDir,
}

impl Proxy {
    /// Starts the binary with the two files and waits until it listens.
    ///
    /// The address is read from the log. Methods that wait for a record need `log-format = json` in
    /// `[proxy]`, as in [`Pki::config_ini`](crate::pki::Pki::config_ini).
    ///
    /// # Panics
    /// With the log, if the proxy exits or does not report that it listens.
    pub fn start(config_ini: &str, exporters_ini: &str) -> Self {
        Self::launch(without_input(binary()), config_ini, exporters_ini, ANYWHERE)
    }

    /// Starts the binary with `-d`.
    pub fn start_with_debug_log(config_ini: &str, exporters_ini: &str) -> Self {
        let arguments = &[ANYWHERE, &["-d"]].concat();
        Self::launch(without_input(binary()), config_ini, exporters_ini, arguments)
    }

    /// Starts the binary on the address and port of `config_ini`.
    pub fn start_where_told(config_ini: &str, exporters_ini: &str) -> Self {
        Self::launch(without_input(binary()), config_ini, exporters_ini, &[])
    }

    /// Starts the binary through a command that executes its arguments, such as `env`. `arguments`
    /// are added to the paths of the files.
    pub fn start_through(
        mut command: Command,
        config_ini: &str,
        exporters_ini: &str,
        arguments: &[&str],
    ) -> Self {
        command.arg(binary());
        Self::launch(command, config_ini, exporters_ini, arguments)
    }

    /// Starts the binary as the only child of a wrapper, such as `strace`.
    pub fn start_beneath(wrapper: &[OsString], config_ini: &str, exporters_ini: &str) -> Self {
        let [program, arguments @ ..] = wrapper else {
            return Self::start(config_ini, exporters_ini);
        };
        let mut command = without_input(program);
        command.args(arguments).arg(binary());
        let mut proxy = Self::launch(command, config_ini, exporters_ini, ANYWHERE);
        proxy.pid = only_child_of(proxy.child.id());
        proxy
    }

    fn launch(
        mut command: Command,
        config_ini: &str,
        exporters_ini: &str,
        arguments: &[&str],
    ) -> Self {
        let folder = TempDir::with_prefix("scrapegate-test-").expect("a temporary folder");
        let config = folder.path().join("config.ini");
        fs::write(&config, config_ini).expect("config.ini written");
        if config_ini.contains("\nauth =") {
            fs::set_permissions(&config, Permissions::from_mode(0o600)).expect("a new mode");
        }
        fs::write(folder.path().join("prometheus_exporters.ini"), exporters_ini)
            .expect("prometheus_exporters.ini written");

        command.arg("run").arg("--config").arg(&config).args(arguments);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));

        let log = LineLog::follow("scrapegate", child.stderr.take().expect("piped"));
        let address = log.wait_for("a record that it listens", listening_address);
        let pid = child.id();
        Self { child, pid, address, log, folder }
    }

    /// The address on which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process ID of the proxy.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The folder with the two INI files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All lines of the log so far.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits for a line, past or future, that contains all of these words.
    pub fn wait_for_line(&self, words: &[&str]) -> String {
        self.log.wait_for(&format!("{words:?}"), |line| {
            words.iter().all(|word| line.contains(word)).then(|| line.to_owned())
        })
    }

    /// Waits for a record, past or future, that `wanted` accepts.
    pub fn wait_for_log(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        self.log.wait_for(what, |line| serde_json::from_str(line).ok().filter(|it| wanted(it)))
    }

    /// Waits for the record of a scrape of `exporter`; returns its fields.
    pub fn wait_for_scrape(&self, exporter: &str) -> Value {
        let wanted = |record: &Value| {
            record["fields"]["message"] == "scrape" && record["fields"]["exporter"] == exporter
        };
        self.wait_for_log(&format!("a scrape of {exporter}"), wanted)["fields"].take()
    }

    /// Waits until `count` records with this message are written or counted as suppressed. Asserts
    /// that the number is exact.
    #[track_caller]
    pub fn assert_logged(&self, message: &str, count: u64) {
        let told = |record: &Value| {
            let fields = &record["fields"];
            if fields["message"] == message {
                1
            } else if fields["message"] == "log records suppressed" && fields["kind"] == message {
                fields["left_out"].as_u64().expect("a number")
            } else {
                0
            }
        };
        let mut seen = 0;
        if count > 0 {
            self.wait_for_log(&format!("{count} records {message:?}"), |record| {
                seen += told(record);
                seen >= count
            });
        }
        let lines = self.log_lines();
        let records = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
        let all: u64 = records.map(|record| told(&record)).sum();
        assert_eq!(all, count, "records {message:?}");
    }

    /// The present resident memory, in KiB.
    pub fn rss_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The resident memory after it has not changed for half a second, in KiB.
    #[track_caller]
    pub fn settled_rss_kib(&self) -> u64 {
        settled(Duration::from_millis(500), || Some(self.rss_kib()))
    }

    /// The peak resident memory since the start, in KiB.
    pub fn peak_rss_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The number of threads.
    pub fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    /// How often each thread has waited so far, by thread ID (`voluntary_ctxt_switches` in
    /// `/proc/PID/task/TID/status`, proc(5)). A thread that ends meanwhile is left out.
    pub fn waits_of_threads(&self) -> BTreeMap<u32, u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("the proxy runs");
        let waits = |task: DirEntry| {
            let id = task.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            Some((id, number_in(&status, "voluntary_ctxt_switches:")))
        };
        tasks.filter_map(|task| waits(task.ok()?)).collect()
    }

    /// The number of open file descriptors.
    pub fn open_fds(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("the proxy runs").count()
    }

    /// Waits until the proxy has at most `most` descriptors open, which is usually the number
    /// before the test's connections.
    ///
    /// # Panics
    /// If it still has more after 5 s.
    #[track_caller]
    pub fn assert_at_rest(&self, most: usize) {
        self.assert_at_rest_within(Duration::from_secs(5), most);
    }

    /// Waits with a time limit other than 5 s.
    #[track_caller]
    pub fn assert_at_rest_within(&self, limit: Duration, most: usize) {
        let begun = Instant::now();
        loop {
            let open = self.open_fds();
            if open <= most {
                return;
            }
            assert!(begun.elapsed() < limit, "{open} descriptors are open, {most} were before");
            // Polls, because the kernel reports no event for this.
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The soft limit on open files.
    pub fn open_files_limit(&self) -> usize {
        let limits =
            fs::read_to_string(format!("/proc/{}/limits", self.pid)).expect("the proxy runs");
        limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("no limit in:\n{limits}"))
    }

    /// Sets the soft limit on open files. Open descriptors stay open, and the limit can be raised
    /// again.
    pub fn limit_open_files(&self, most: usize) {
        let limited = Command::new("prlimit")
            .arg(format!("--pid={}", self.pid))
            .arg(format!("--nofile={most}:"))
            .status()
            .expect("prlimit runs");
        assert!(limited.success(), "the limit of {most} open files was not set");
    }

    /// The CPU time since the start, in user space and in the kernel.
    pub fn cpu_time(&self) -> Duration {
        let pid = Pid::from_raw(self.pid.try_into().expect("a process"));
        let clock = clock_getcpuclockid(pid).expect("the proxy runs");
        clock_gettime(clock).expect("the proxy runs").into()
    }

    /// Sends a signal, by its name without `SIG`, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        // The shell's built-in `kill`: the crate forbids unsafe code, and the program may be
        // missing.
        let sent = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{signal} {}", self.pid))
            .status()
            .expect("sh runs");
        assert!(sent.success(), "SIG{signal} was not sent");
    }

    /// Waits until the proxy has exited.
    ///
    /// # Panics
    /// With the log, if it does not exit.
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.log.wait_for_end();
        self.child.wait().expect("the child is ours")
    }

    /// A number in `/proc/PID/status`. Memory is in KiB.
    fn status(&self, key: &str) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the proxy runs");
        number_in(&status, key)
    }
}

/// The number after `key` in a `status` file of proc(5).
fn number_in(status: &str, key: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {key} in:\n{status}"))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.pid != self.child.id() && matches!(self.child.try_wait(), Ok(None)) {
            self.signal("KILL");
        }
        // These calls fail if the process has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            print_log(&self.log.lines());
        }
    }
}

#[expect(clippy::print_stderr, reason = "the log of the proxy explains a failed test")]
fn print_log(lines: &[String]) {
    eprintln!("the proxy's log:\n{}", lines.join("\n"));
}

fn without_input(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

fn listening_address(line: &str) -> Option<SocketAddr> {
    if let Some((_, text)) = line.split_once(" listening address=") {
        return text.split(' ').next()?.parse().ok();
    }
    let record: Value = serde_json::from_str(line).ok()?;
    let fields = &record["fields"];
    if fields["message"] != "listening" {
        return None;
    }
    fields["address"].as_str()?.parse().ok()
}

fn only_child_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .expect("the kernel lists children");
    children.trim().parse().unwrap_or_else(|_| panic!("not one child of {pid}: {children:?}"))
}
