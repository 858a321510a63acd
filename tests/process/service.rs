//! The notifications to systemd (`sd_notify(3)`), and the socket that systemd passes on
//! (`sd_listen_fds(3)`).

use std::{
    fs,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use scrapegate_harness::{
    EndOnDrop, PATIENCE,
    client::Client,
    exporter::{Exporter, Gate},
    log::LineLog,
    pki::{BOTH_VERSIONS, Pki},
    proxy::{ANYWHERE, Proxy, binary},
};
use tempfile::TempDir;

use crate::{Ended, Files, Killed};

/// The service manager's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::with_prefix("scrapegate-notify-").expect("a temporary folder");
        let socket = UnixDatagram::bind(folder.path().join("socket")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { socket, folder }
    }

    /// A command that sets the manager's variables and these, and then executes the arguments that
    /// follow.
    fn starts(&self, variables: &[&str]) -> Command {
        let mut command = Command::new("env");
        let socket = self.folder.path().join("socket");
        command.arg(format!("NOTIFY_SOCKET={}", socket.display())).args(variables);
        command
    }

    /// A manager whose queue is full.
    fn that_does_not_read() -> Self {
        let manager = Self::new();
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.set_nonblocking(true).expect("an option");
        while sender.send_to(b"STATUS=full", manager.folder.path().join("socket")).is_ok() {}
        manager
    }

    /// The next message, with one line for each assignment.
    #[track_caller]
    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = loop {
            match self.socket.recv(&mut bytes) {
                // The test process was stopped and continued, for example by a debugger.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received.expect("a message"),
            }
        };
        String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned).collect()
    }

    /// Asserts that the next message begins with `state`; returns its status line.
    #[track_caller]
    fn expect(&self, first: &str) -> String {
        let message = self.next();
        assert_eq!(message[0], first, "{message:?}");
        let status = message.iter().find_map(|line| line.strip_prefix("STATUS="));
        status.unwrap_or_default().to_owned()
    }
}

fn exporter() -> Exporter {
    Exporter::start(|conversation| {
        conversation.read_request()?;
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
    })
}

/// The clock of `MONOTONIC_USEC`, in microseconds.
fn monotonic() -> i128 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock");
    i128::from(now.tv_sec()) * 1_000_000 + i128::from(now.tv_nsec()) / 1000
}

#[test]
fn start_reload_and_shutdown_are_notified() {
    let (pki, manager) = (Pki::new(), Manager::new());
    let exporters = exporter().section("e");
    let mut proxy =
        Proxy::start_through(manager.starts(&[]), &pki.config_ini(""), &exporters, ANYWHERE);
    let status = manager.expect("READY=1");
    assert!(status.starts_with("exporters: 1, connections: 0, configuration from 20"), "{status}");

    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    assert_eq!(client.get("/-/ready").head.status, 200);
    let file = proxy.folder().join("prometheus_exporters.ini");
    for (text, expected) in [
        (String::new(), "exporters: 0, connections: 1, configuration from 20"),
        (
            "[broken\n".to_owned(),
            "last reload failed, see the log; exporters: 0, connections: 1, configuration from 20",
        ),
        (exporters, "exporters: 1, connections: 1, configuration from 20"),
    ] {
        fs::write(&file, text).expect("written");
        let before = monotonic();
        proxy.signal("HUP");
        let message = manager.next();
        let [reloading, time] = &message[..] else { panic!("{message:?}") };
        assert_eq!(reloading, "RELOADING=1");
        let time = time.strip_prefix("MONOTONIC_USEC=").expect("the time");
        assert!((before..=monotonic()).contains(&time.parse().expect("a number")), "{time}");
        let status = manager.expect("READY=1");
        assert!(status.starts_with(expected), "{status}");
    }
    proxy.signal("TERM");
    assert_eq!(manager.expect("STOPPING=1"), "draining, connections: 1");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn the_watchdog_is_notified_twice_in_its_interval_also_during_the_drain() {
    let (pki, manager) = (Pki::new(), Manager::new());
    let gate = Gate::default();
    let opened = gate.clone();
    let exporter = Exporter::start(move |conversation| {
        conversation.read_request()?;
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na ")?;
        opened.wait();
        conversation.send("1\n")
    });
    let begun = Instant::now();
    let mut proxy = Proxy::start_through(
        manager.starts(&["WATCHDOG_USEC=400000"]),
        &pki.config_ini(""),
        &exporter.section("e"),
        ANYWHERE,
    );
    manager.expect("READY=1");
    for _ in 0..5 {
        manager.expect("WATCHDOG=1");
    }
    let lasted = begun.elapsed();
    assert!(lasted >= Duration::from_secs(1), "five notifications in {lasted:?}");

    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    client.send_get("/prometheus?exporter=e").expect("sent");
    let head = client.read_head().expect("a head");
    proxy.signal("TERM");
    while manager.next()[0] != "STOPPING=1" {}
    manager.expect("WATCHDOG=1");
    manager.expect("WATCHDOG=1");
    gate.open();
    assert!(client.read_body(&head).is_complete());
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn the_watchdog_of_another_process_is_not_notified() {
    let (pki, manager) = (Pki::new(), Manager::new());
    let variables = ["WATCHDOG_USEC=1000", "WATCHDOG_PID=1"];
    let proxy = Proxy::start_through(manager.starts(&variables), &pki.config_ini(""), "", ANYWHERE);
    manager.expect("READY=1");
    // Nothing must happen, so there is no event to wait for. The watchdog of this process would send
    // 400 messages in this time.
    thread::sleep(Duration::from_millis(200));
    proxy.signal("TERM");
    manager.expect("STOPPING=1");
}

#[test]
fn f02_a_manager_that_does_not_read_blocks_nothing_and_still_gets_the_current_state() {
    let (pki, manager) = (Pki::new(), Manager::that_does_not_read());
    let exporter = exporter();
    let mut proxy = Proxy::start_through(
        manager.starts(&["WATCHDOG_USEC=2000"]),
        &pki.config_ini(""),
        &exporter.section("e"),
        ANYWHERE,
    );
    // A hundred watchdog messages become due, while clients connect and a reload runs.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(200) {
        let client = Client::connect(proxy.address(), pki.client(BOTH_VERSIONS));
        let answer = client.expect("a handshake").get("/prometheus?exporter=e");
        assert_eq!(answer.head.status, 200);
    }
    proxy.signal("HUP");
    proxy.wait_for_log("a reload", |record| record["fields"]["message"] == "reloaded");
    // From here on the manager reads. Messages may succeed and fail in turn.
    let warnings = proxy.log_lines();
    let warnings =
        warnings.iter().filter(|line| line.contains("cannot notify the service manager"));
    assert_eq!(warnings.count(), 1, "one warning for all failures");

    // The manager gets the current state.
    while manager.next() == ["STATUS=full"] {}
    let mut seen = Vec::new();
    while !seen.contains(&"READY=1".to_owned()) {
        seen.push(manager.next()[0].clone());
    }
    proxy.signal("TERM");
    while manager.next()[0] != "STOPPING=1" {}
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn f02_watchdog_notifications_need_no_free_file_descriptor() {
    let (pki, manager) = (Pki::new(), Manager::new());
    let variables = ["WATCHDOG_USEC=100000"];
    let proxy = Proxy::start_through(manager.starts(&variables), &pki.config_ini(""), "", ANYWHERE);
    manager.expect("READY=1");
    proxy.limit_open_files(0);
    // Messages after the start of this reload were sent with the new limit.
    proxy.signal("HUP");
    while manager.next()[0] != "RELOADING=1" {}
    while manager.next()[0] != "READY=1" {}
    for _ in 0..3 {
        manager.expect("WATCHDOG=1");
    }
}

#[test]
fn f02_a_manager_that_never_reads_does_not_block_the_exit() {
    let (pki, manager) = (Pki::new(), Manager::that_does_not_read());
    let mut proxy = Proxy::start_through(manager.starts(&[]), &pki.config_ini(""), "", ANYWHERE);
    proxy.signal("TERM");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn f02_an_abstract_socket_is_notified() {
    use std::os::linux::net::SocketAddrExt as _;
    let (pki, mut manager) = (Pki::new(), Manager::new());
    let name = format!("scrapegate-test-{}", manager.folder.path().display());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    manager.socket = UnixDatagram::bind_addr(&address).expect("a socket");
    manager.socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut command = Command::new("env");
    command.arg(format!("NOTIFY_SOCKET=@{name}"));
    let proxy = Proxy::start_through(command, &pki.config_ini(""), "", ANYWHERE);
    manager.expect("READY=1");
    proxy.signal("TERM");
    manager.expect("STOPPING=1");
}

#[test]
fn f02_an_unsupported_notify_address_is_ignored_with_a_warning() {
    let pki = Pki::new();
    let mut command = Command::new("env");
    command.arg("NOTIFY_SOCKET=vsock:2:1234");
    let proxy = Proxy::start_through(command, &pki.config_ini(""), "", ANYWHERE);
    proxy.wait_for_line(&[
        "invalid NOTIFY_SOCKET ignored",
        "neither a path nor an abstract address",
    ]);
}

/// CRLs that take seconds to read, so that a `SIGTERM` arrives during the reload.
fn slow_to_read(pki: &Pki) {
    let list = scrapegate_harness::forge::revocation_list(pki.ca(), &[], -1..100);
    fs::write(pki.path("lists.pem"), list.repeat(20_000)).expect("written");
}

#[test]
fn f24_a_shutdown_during_a_reload_opens_no_port_and_is_not_a_failed_reload() {
    let (pki, manager) = (Pki::new(), Manager::new());
    let config = pki.config_ini("http-reload = True\n");
    let mut proxy = Proxy::start_through(manager.starts(&[]), &config, "", ANYWHERE);
    manager.expect("READY=1");
    slow_to_read(&pki);
    let next = TcpListener::bind("127.0.0.2:0").expect("a free port").local_addr();
    let next = next.expect("an address");
    let lists = pki.path("lists.pem");
    let config = config.replace(
        "[default]\n",
        &format!("[default]\naddress = {}\nport = {}\n", next.ip(), next.port()),
    ) + &format!("client-crl = {}\n", lists.display());
    fs::write(proxy.folder().join("config.ini"), config).expect("written");

    let connect = || Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("in");
    let (mut asks, mut watches) = (connect(), connect());
    watches.send("GET /metrics HTTP/1.1\r\nHost: h").expect("sent");
    watches.wait_until_read();
    asks.send("POST /-/reload HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
    assert_eq!(manager.next()[0], "RELOADING=1");
    proxy.signal("TERM");
    let answer = asks.read_response().expect("an answer");
    assert_eq!((answer.head.status, answer.head.reason.as_str()), (503, "shutting down"));
    // A request whose head had begun is answered during the drain.
    watches.send("\r\n\r\n").expect("sent");
    let metrics = watches.read_response().expect("an answer").body.text();
    assert!(metrics.contains("\nscrapegate_config_last_reload_successful 1\n"), "{metrics}");
    assert!(TcpStream::connect(next).is_err(), "the new port is not open");
    assert_eq!(proxy.wait_exit().code(), Some(0));
    assert_eq!(manager.next()[0], "STOPPING=1");
    manager.socket.set_nonblocking(true).expect("an option");
    assert!(manager.socket.recv(&mut [0; 99]).is_err(), "nothing after STOPPING");
    let lines = proxy.log_lines();
    assert!(!lines.iter().any(|line| line.contains("reload failed")), "{lines:#?}");
}

/// A command that passes on `socket` as systemd does, and then executes the arguments that follow.
fn passing_on(socket: impl Into<OwnedFd>, count: u32) -> Command {
    let mut command = Command::new("sh");
    let script = format!("exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS={count} exec \"$@\"");
    command.args(["-c", &script, "sh"]).stdin(Stdio::from(socket.into()));
    command
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

#[test]
fn a_passed_socket_replaces_the_address_also_after_a_reload() {
    let pki = Pki::new();
    let exporter = exporter();
    let (socket, address) = listener();
    let at = |port: u16| {
        let default = format!("[default]\naddress = 192.0.2.1\nport = {port}\n");
        pki.config_ini("").replace("[default]\n", &default)
    };
    let proxy =
        Proxy::start_through(passing_on(socket, 1), &at(1), &exporter.section("before"), &[]);
    assert_eq!(proxy.address(), address);
    let get = |name: &str| {
        let mut client = Client::connect(address, pki.client(BOTH_VERSIONS)).expect("a handshake");
        client.get(&format!("/prometheus?exporter={name}")).head.status
    };
    assert_eq!(get("before"), 200);
    fs::write(proxy.folder().join("config.ini"), at(2)).expect("written");
    fs::write(proxy.folder().join("prometheus_exporters.ini"), exporter.section("after"))
        .expect("written");
    proxy.signal("HUP");
    proxy.wait_for_log("reloaded", |record| record["fields"]["message"] == "reloaded");
    assert_eq!((get("before"), get("after")), (404, 200));
    proxy.wait_for_log("a warning", |record| {
        let message = record["fields"]["message"].as_str().unwrap_or_default();
        record["level"] == "WARN" && message.contains("new address is ignored")
    });
}

/// An address of this host other than loopback, if it has one.
fn address_on_a_network() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    // Sends nothing. The kernel only selects the source address for this destination (RFC 5737).
    socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[test]
fn plain_http_on_a_passed_socket_is_still_limited_to_this_host() {
    let exporter = exporter();
    let socket = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    let config = "[default]\naddress = 127.0.0.1\n[proxy]\ninsecure-plain-http = True\n\
        log-format = json\n";
    let proxy = Proxy::start_through(passing_on(socket, 1), config, &exporter.section("x"), &[]);
    let answer = |to: IpAddr| {
        let mut client = TcpStream::connect((to, port)).expect("connected");
        // Fails if the proxy has closed the connection already.
        let _ =
            client.write_all(b"GET /prometheus HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        String::from_utf8(answer).expect("text")
    };
    let here = answer(Ipv4Addr::LOCALHOST.into());
    assert!(here.starts_with("HTTP/1.1 200 OK\r\n") && here.ends_with("[\"x\"]"), "{here}");
    let Some(elsewhere) = address_on_a_network() else {
        skip("this host is on no network");
        return;
    };
    assert_eq!(answer(elsewhere), "", "plain HTTP from {elsewhere}");
    proxy.wait_for_log("the reason", |record| {
        let message = record["fields"]["message"].as_str().unwrap_or_default();
        message == "closing connection: plain HTTP is allowed from loopback addresses only"
    });
    assert!(answer(Ipv4Addr::LOCALHOST.into()).starts_with("HTTP/1.1 200 OK\r\n"));
}

#[expect(clippy::print_stderr, reason = "a test that shows less than its name must say so")]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Runs the binary with a socket that it cannot use, until it exits.
fn run_with(socket: impl Into<OwnedFd>, count: u32) -> Ended {
    let pki = Pki::new();
    let files = Files::new(&pki.config_ini(""), "");
    let mut command = passing_on(socket, count);
    command.arg(binary()).args(["run", "--config", &files.config()]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Killed(command.spawn().expect("sh runs"));
    let err = LineLog::follow("standard error", child.0.stderr.take().expect("piped"));
    err.wait_for_end();
    let code = child.0.wait().expect("the child is ours").code();
    Ended { code, out: Vec::new(), err: err.lines() }
}

#[test]
fn an_unusable_passed_socket_is_an_error_with_the_reason() {
    let (socket, address) = listener();
    let connection = TcpStream::connect(address).expect("connected");
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    for (ended, reason) in [
        (run_with(socket, 2), "expected one socket from systemd, got 2"),
        (run_with(datagrams, 1), "the file descriptor from systemd is not a TCP socket"),
        (run_with(connection, 1), "is not listening; set Accept=no"),
    ] {
        assert_eq!(ended.code, Some(71), "{:#?}", ended.err);
        assert!(ended.errors().contains(reason), "{reason}: {:#?}", ended.err);
    }
}

#[test]
fn with_a_passed_socket_no_connection_is_refused_across_restarts() {
    const CLIENTS: usize = 4;
    let pki = Pki::new();
    let exporter = exporter();
    let (socket, address) = listener();
    let start = || {
        let passed_on = passing_on(socket.try_clone().expect("a descriptor"), 1);
        Proxy::start_through(passed_on, &pki.config_ini(""), &exporter.section("e"), ANYWHERE)
    };
    let (whole, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    let client = || {
        while !enough.load(Ordering::Relaxed) {
            // No connection may be refused. A connection in the handshake during a drain or a kill
            // may end.
            let stream = TcpStream::connect(address).expect("a connection");
            let scrape = Client::over(stream, pki.client(BOTH_VERSIONS)).and_then(|mut client| {
                client.send_get("/prometheus?exporter=e")?;
                client.read_response()
            });
            let is_whole = scrape.is_ok_and(|it| it.head.status == 200 && it.body.is_complete());
            whole.fetch_add(usize::from(is_whole), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let end = EndOnDrop(&enough);
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        for round in 0..6 {
            let mut proxy = start();
            let before = whole.load(Ordering::Relaxed);
            while whole.load(Ordering::Relaxed) < before + 20 {
                assert!(clients.iter().all(|it| !it.is_finished()), "a client was refused");
                thread::yield_now();
            }
            proxy.signal(if round % 2 == 0 { "TERM" } else { "KILL" });
            proxy.wait_exit();
        }
        let last = start();
        drop(end);
        for client in clients {
            client.join().expect("no connection was refused");
        }
        drop(last);
    });
}
