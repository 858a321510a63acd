//! Standard error that no program reads (F01). This may cost log records, and nothing else.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    pty::openpty,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use scrapegate_harness::{
    PATIENCE,
    client::Client,
    exporter::Exporter,
    log::LineLog,
    metrics::Samples,
    pki::{BOTH_VERSIONS, Pki},
    proxy::{ANYWHERE, binary},
};
use serde_json::Value;

use crate::{Files, Killed, wait_until};

const SCRAPES: usize = 500;
const STRANGERS: usize = 100;
const DROPPED: &str = "scrapegate_log_records_dropped_total";

/// How long a client waits before it considers the proxy stuck.
const STUCK: Duration = Duration::from_secs(20);

/// The longest time in which the proxy exits. It waits at most 100 ms for a reader that never
/// reads.
const END: Duration = Duration::from_secs(10);

/// The two ends of standard error: the reader's and the proxy's.
type Ends = (OwnedFd, OwnedFd);

#[expect(clippy::incompatible_msrv, reason = "only the program is built with the oldest compiler")]
fn pipe() -> Ends {
    let (reader, writer) = io::pipe().expect("a pipe");
    (reader.into(), writer.into())
}

fn socket() -> Ends {
    let (reader, writer) = UnixStream::pair().expect("a socket");
    (reader.into(), writer.into())
}

fn terminal() -> Ends {
    let pair = openpty(None, None).expect("a terminal");
    (pair.master, pair.slave)
}

/// A proxy whose log was read up to the record that it listens.
struct Setup {
    child: Killed,
    log: BufReader<File>,
    address: SocketAddr,
    pki: Pki,
    _exporter: Exporter,
    _files: Files,
}

impl Setup {
    fn new((reader, writer): Ends, more: &[&str]) -> Self {
        let pki = Pki::new();
        let exporter = Exporter::start(|conversation| {
            conversation.read_request()?;
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
        });
        let files = Files::new(&pki.config_ini(""), &exporter.section("e"));
        let child = Command::new(binary())
            .args(["run", "--config", &files.config()])
            .args(ANYWHERE)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(writer)
            .spawn()
            .expect("the binary runs");
        let child = Killed(child);
        let mut log = BufReader::new(File::from(reader));
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).expect("readable") > 0, "the log has ended");
            let record: Value = serde_json::from_str(&line).unwrap_or_default();
            if record["fields"]["message"] == "listening" {
                let address = record["fields"]["address"].as_str().expect("a string");
                break address.parse().expect("an address");
            }
        };
        Self { child, log, address, pki, _exporter: exporter, _files: files }
    }

    fn connect(&self) -> io::Result<Client> {
        let client = Client::connect(self.address, self.pki.client(BOTH_VERSIONS))?;
        client.socket().set_read_timeout(Some(STUCK))?;
        Ok(client)
    }

    /// How many of these scrapes, each over a new connection, get a complete response before the
    /// first that does not.
    fn scrapes_answered(&self, scrapes: usize) -> usize {
        let scrape = || {
            let mut client = self.connect()?;
            client.send_get("/prometheus?exporter=e")?;
            client.read_response()
        };
        let is_whole =
            |_: &usize| scrape().is_ok_and(|it| it.head.status == 200 && it.body.is_complete());
        (0..scrapes).take_while(is_whole).count()
    }

    fn samples(&self) -> Samples {
        Samples::of(&mut self.connect().expect("a handshake"))
    }

    /// Sends `SIGTERM`. Returns the exit code, and how long the exit took.
    #[track_caller]
    fn end(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        let pid = Pid::from_raw(self.child.0.id().try_into().expect("a process"));
        kill(pid, Signal::SIGTERM).expect("sent");
        loop {
            if let Some(status) = self.child.0.try_wait().expect("the child is ours") {
                return (status.code(), begun.elapsed());
            }
            assert!(begun.elapsed() < PATIENCE, "SIGTERM has no effect");
            // Polls, because `Child` cannot wait with a time limit.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures are worth reading in the log of a passed run")]
fn f01_an_unread_log_delays_neither_scrapes_nor_handshakes_nor_the_exit() {
    for (kind, ends) in [("pipe", pipe()), ("socket", socket()), ("terminal", terminal())] {
        let mut setup = Setup::new(ends, &[]);
        let answered = setup.scrapes_answered(SCRAPES);
        println!("F01, standard error is an unread {kind}: {answered} of {SCRAPES}");
        assert_eq!(answered, SCRAPES, "{kind}");
        for _ in 0..STRANGERS {
            // Each of these connections causes a record. A stranger can cause nothing else.
            let stranger = Client::connect(setup.address, setup.pki.stranger(BOTH_VERSIONS));
            let refused = stranger.and_then(|mut it| {
                it.socket().set_read_timeout(Some(STUCK))?;
                it.send_get("/")?;
                it.read_response()
            });
            let error = refused.expect_err("a stranger");
            assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "{kind}: {error}");
        }
        let healthy = setup.connect().expect("a handshake").get("/-/healthy");
        assert_eq!(healthy.head.status, 200, "{kind}");
        let (code, took) = setup.end();
        assert_eq!(code, Some(0), "{kind}");
        assert!(took < END, "{kind}: {took:?}");
    }
}

#[test]
fn f01_dropped_records_are_counted_and_reported_when_the_reader_returns() {
    // With `-d`, a connection causes dozens of records.
    let mut setup = Setup::new(pipe(), &["-d"]);
    let begun = Instant::now();
    while setup.samples().value(DROPPED) < 1000.0 {
        assert_eq!(setup.scrapes_answered(50), 50);
        assert!(begun.elapsed() < PATIENCE, "no record is dropped");
    }

    let nobody = BufReader::new(File::open("/dev/null").expect("Linux has one"));
    let log = LineLog::follow("scrapegate", std::mem::replace(&mut setup.log, nobody));
    let reports = |lines: &[String]| -> Vec<u64> {
        let records = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter_map(|record| record["fields"]["dropped"].as_u64()).collect()
    };
    log.wait_for("a report", |line| (!reports(&[line.to_owned()]).is_empty()).then_some(()));
    let counted = setup.samples().value(DROPPED);
    assert_eq!(setup.scrapes_answered(10), 10);
    assert_eq!(setup.end().0, Some(0));
    log.wait_for_end();
    let lines = log.lines();
    let reports = reports(&lines);
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(reports.iter().sum::<u64>() as f64, counted);
    let is_record =
        |line: &String| serde_json::from_str::<Value>(line).is_ok_and(|it| it.is_object());
    assert_eq!(lines.iter().find(|line| !is_record(line)), None, "a record is complete or missing");
    assert!(lines.last().is_some_and(|line| line.contains("stopped")), "{:?}", lines.last());
}

#[test]
fn f01_a_log_whose_reader_has_exited_costs_only_records() {
    let mut setup = Setup::new(pipe(), &[]);
    setup.log = BufReader::new(File::open("/dev/null").expect("Linux has one"));
    assert_eq!(setup.scrapes_answered(20), 20);
    let begun = Instant::now();
    while setup.samples().value(DROPPED) < 20.0 {
        assert!(begun.elapsed() < PATIENCE, "dropped records are not counted");
    }
    assert_eq!(setup.end().0, Some(0));
}

#[test]
fn f01_the_last_records_are_written_before_the_exit() {
    let mut setup = Setup::new(pipe(), &[]);
    assert_eq!(setup.scrapes_answered(20), 20);
    assert_eq!(setup.end().0, Some(0));
    let mut rest = String::new();
    setup.log.read_to_string(&mut rest).expect("UTF-8");
    assert_eq!(rest.matches("\"message\":\"scrape\"").count(), 20, "{rest}");
    assert!(rest.lines().last().is_some_and(|line| line.contains("stopped")), "{rest}");
}

/// No program reads standard error, and it is full before the start. The certificate is not valid
/// yet, which is reported before the logger starts.
#[test]
fn f01_a_start_that_waits_for_its_certificate_does_not_wait_for_a_reader() {
    let pki = Pki::new();
    pki.replace_server(1..10);
    let files = Files::new(&pki.config_ini(""), "");
    let (_reader, mut writer) = io::pipe().expect("a pipe");
    let size = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).expect("its size");
    writer.write_all(&vec![b'x'; size.try_into().expect("a size")]).expect("full");
    let begun = Instant::now();
    let child = Command::new(binary())
        .args(["run", "--config", &files.config()])
        .args(ANYWHERE)
        .stdin(Stdio::null())
        .stderr(writer)
        .spawn()
        .expect("the binary runs");
    let mut child = Killed(child);
    wait_until("the end", || matches!(child.0.try_wait(), Ok(Some(_))));
    assert_eq!(child.0.wait().expect("ours").code(), Some(71));
    assert!(
        begun.elapsed() >= Duration::from_secs(10),
        "the start did not wait for the certificate"
    );
}
