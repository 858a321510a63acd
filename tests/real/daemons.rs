//! Real exporters and a real Prometheus as child processes on free loopback ports.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::{PATIENCE, log::LineLog, pki::Pki, proxy::Proxy};
use serde_json::Value;
use tempfile::TempDir;

/// The interval at which Prometheus is polled. It scrapes once a second.
const POLL: Duration = Duration::from_millis(200);

/// A running daemon, which is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    address: SocketAddr,
    log: LineLog,
    /// The daemon's data folder, which is deleted with this.
    _folder: Option<TempDir>,
}

impl Daemon {
    /// node_exporter on a free port.
    pub(crate) fn node_exporter() -> Self {
        Self::node_exporter_on("127.0.0.1:0")
    }

    /// node_exporter on a port that another instance used before.
    pub(crate) fn node_exporter_on(listen: &str) -> Self {
        Self::start(
            Command::new("prometheus-node-exporter")
                .arg(format!("--web.listen-address={listen}"))
                // Collectors that query the system bus or take long are irrelevant for these tests.
                .args(["--no-collector.systemd", "--no-collector.filesystem"]),
            None,
        )
    }

    /// node_exporter on a free port with one more argument.
    pub(crate) fn node_exporter_with(argument: &str) -> Self {
        Self::start(
            Command::new("prometheus-node-exporter")
                .args(["--web.listen-address=127.0.0.1:0", argument])
                .args(["--no-collector.systemd", "--no-collector.filesystem"]),
            None,
        )
    }

    /// mysqld_exporter without a database. It still answers, with `mysql_up 0`.
    pub(crate) fn mysqld_exporter() -> Self {
        Self::start(
            Command::new("prometheus-mysqld-exporter")
                .arg("--web.listen-address=127.0.0.1:0")
                .env("DATA_SOURCE_NAME", "nobody:nothing@(127.0.0.1:1)/"),
            None,
        )
    }

    /// Prometheus with `config` and its own data folder, ready for requests.
    pub(crate) fn prometheus(config: &str) -> Self {
        let folder = TempDir::with_prefix("scrapegate-prometheus-").expect("a temporary folder");
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).expect("prometheus.yml written");
        let mut command = Command::new("prometheus");
        command
            .arg(flag("--config.file", &file))
            .arg(flag("--storage.tsdb.path", &folder.path().join("data")))
            .arg("--web.listen-address=127.0.0.1:0");
        let prometheus = Self::start(&mut command, Some(folder));
        prometheus.log.wait_for("being ready", |line| {
            line.contains("Server is ready to receive web requests").then_some(())
        });
        prometheus
    }

    /// The address on which the daemon listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `data` of a response of Prometheus' API; `parameters` are passed to curl.
    ///
    /// # Panics
    /// If the response is not a success.
    pub(crate) fn api(&self, path: &str, parameters: &[&str]) -> Value {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let output = curl([&["--get", &url], parameters].concat());
        let mut answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{url}: {error}: {output:?}"));
        assert_eq!(answer["status"], "success", "{url} {parameters:?}: {answer}");
        answer["data"].take()
    }

    /// Kills the daemon and waits until it has exited and its port is free.
    pub(crate) fn stop(mut self) {
        self.child.kill().expect("a running process");
        self.child.wait().expect("the child is ours");
    }

    /// All these daemons log their port in the same way, that of Prometheus' exporter toolkit.
    fn start(command: &mut Command, folder: Option<TempDir>) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let log = LineLog::follow(&name, child.stderr.take().expect("piped"));
        let address = log.wait_for("its address", |line| {
            let (_, address) = line.split_once("msg=\"Listening on\" address=")?;
            address.parse().ok()
        });
        Self { child, address, log, _folder: folder }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // These calls fail if the daemon has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// Polls until `look` succeeds.
///
/// # Panics
/// With the last value that `look` saw, after [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_for(what: &str, mut look: impl FnMut() -> Result<(), Value>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(seen) = look() {
        assert!(
            Instant::now() < deadline,
            "Prometheus never saw {what}; its last answer: {seen:#}"
        );
        thread::sleep(POLL);
    }
}

/// Runs curl with `args`. It prints only the response and errors.
pub(crate) fn curl<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30"])
        .args(args)
        .output()
        .expect("curl runs")
}

/// Scrapes an exporter through the proxy, with curl and the client certificate of `pki`. `more` is
/// added to the arguments.
pub(crate) fn curl_through(proxy: &Proxy, pki: &Pki, exporter: &str, more: &[&str]) -> Output {
    let [ca, cert, key] =
        ["ca.pem", "client.pem", "client.key"].map(|file| pki.path(file).display().to_string());
    let port = proxy.address().port();
    let url = format!("https://localhost:{port}/prometheus?exporter={exporter}");
    let resolve = format!("localhost:{port}:127.0.0.1");
    let own: [&str; 9] =
        ["--cacert", &ca, "--cert", &cert, "--key", &key, "--resolve", &resolve, &url];
    curl(own.iter().chain(more))
}
