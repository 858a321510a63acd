//! `scrapegate get`: exit code 0 if and only if the body is complete.

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    process::{Command, Stdio},
};

use scrapegate_harness::{
    body::Body,
    exporter::{Conversation, Exporter, Framing, Gate, Script},
    log::LineLog,
    pki::Pki,
    proxy::{Proxy, binary},
};

use crate::{Ended, Files, Killed, run, wait_until};

/// A proxy in front of one exporter, `e`, and a folder for the output of `get`.
pub(crate) struct Stage {
    pub(crate) pki: Pki,
    pub(crate) proxy: Proxy,
    pub(crate) exporter: Exporter,
    pub(crate) files: Files,
}

impl Stage {
    /// The exporter stops in the middle of its body until the gate opens.
    pub(crate) fn halting() -> (Self, Gate) {
        let gate = Gate::default();
        let opened = gate.clone();
        let stage = Self::new(move |conversation: &mut Conversation| {
            conversation.read_request()?;
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\na 1\n")?;
            opened.wait();
            conversation.send("b 2\n")
        });
        (stage, gate)
    }

    pub(crate) fn new(script: impl Script) -> Self {
        Self::with("[default]\n", script)
    }

    /// With these lines at the beginning of `config.ini`.
    pub(crate) fn with(defaults: &str, script: impl Script) -> Self {
        let (pki, exporter) = (Pki::new(), Exporter::start(script));
        let config = pki.config_ini("").replace("[default]\n", defaults);
        let proxy = Proxy::start(&config, &exporter.section("e"));
        Self { pki, proxy, exporter, files: Files::new("", "") }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.proxy.address())
    }

    /// The options for the client certificate that the proxy requires.
    pub(crate) fn as_client(&self) -> Vec<String> {
        let path = |name: &str| self.pki.path(name).display().to_string();
        ["--cert", &path("client.pem"), "--key", &path("client.key"), "--cacert", &path("ca.pem")]
            .map(str::to_owned)
            .into()
    }

    pub(crate) fn arguments(&self, more: &[&str]) -> Vec<String> {
        let mut all = vec!["get".to_owned(), "e".to_owned(), "--url".to_owned(), self.url()];
        all.extend(self.as_client());
        all.extend(more.iter().map(|it| (*it).to_owned()));
        all
    }

    #[track_caller]
    pub(crate) fn get(&self, more: &[&str]) -> Ended {
        run(self.arguments(more).iter().map(String::as_str))
    }

    /// The path given to `--output`.
    fn output(&self) -> String {
        self.files.path("body").display().to_string()
    }

    /// The files in the folder, without the two that are always there.
    fn left(&self) -> Vec<String> {
        let folder = self.files.path("");
        let names = fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
        names.filter(|name| !name.ends_with(".ini")).collect()
    }
}

pub(crate) fn answering(text: &'static str) -> impl Script {
    move |conversation: &mut Conversation| {
        let length = text.len();
        conversation.read_request()?;
        conversation.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"))
    }
}

/// Asserts that `get` failed with this reason and printed this advice.
#[track_caller]
pub(crate) fn assert_failed(ended: &Ended, words: &[&str]) {
    let errors = ended.errors();
    assert_eq!(ended.code, Some(1), "{errors}");
    for word in words {
        assert!(errors.contains(word), "{word:?} not in {errors}");
    }
    assert!(errors.contains("scrapegate: hint: "), "{errors}");
}

#[test]
fn the_body_goes_to_standard_output_and_the_figures_to_standard_error() {
    let stage = Stage::new(answering("a 1\nb 2\n"));
    let ended = stage.get(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    assert_eq!(ended.out, ["a 1", "b 2"]);
    assert_eq!(ended.err.len(), 1, "a progress bar without a terminal: {:#?}", ended.err);
    for word in ["complete: 8 bytes in ", "/s; first byte after "] {
        assert!(ended.err[0].contains(word), "{:#?}", ended.err);
    }
    assert_eq!(stage.exporter.requests().len(), 1);
}

#[test]
fn parameters_of_the_url_reach_the_exporter() {
    let stage = Stage::new(answering("a 1\n"));
    let url = format!("{}/prometheus?collect[]=cpu", stage.url());
    let mut arguments = stage.arguments(&[]);
    arguments[3] = url;
    let ended = run(arguments.iter().map(String::as_str));
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    let requests = stage.exporter.requests();
    assert!(requests[0].starts_with("GET /metrics?collect[]=cpu HTTP/1.1\r\n"), "{requests:?}");
}

#[test]
fn an_output_file_has_the_complete_body_or_is_unchanged() {
    let stage = Stage::new(answering("a 1\n"));
    assert_eq!(stage.get(&["--output", &stage.output()]).code, Some(0));
    assert_eq!(fs::read_to_string(stage.output()).expect("there"), "a 1\n");

    let cut = Stage::new(|conversation: &mut Conversation| {
        conversation.read_request()?;
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
        // More bytes than the buffers of the proxy hold.
        conversation.send("a 1\n".repeat(200_000))
    });
    let ended = cut.get(&["--output", &cut.output()]);
    assert_failed(&ended, &["exporter: the answer was cut off after "]);
    assert_eq!(cut.left(), [""; 0]);

    fs::write(cut.output(), "before").expect("written");
    assert_failed(&cut.get(&["--output", &cut.output()]), &["cut off"]);
    assert_eq!(cut.left(), ["body"]);
    assert_eq!(fs::read_to_string(cut.output()).expect("there"), "before");
}

#[test]
fn an_output_device_is_written_to_and_not_replaced() {
    let stage = Stage::new(answering("a 1\n"));
    let pipe = stage.files.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::read_to_string(pipe))
    };
    let ended = stage.get(&["--output", &pipe.display().to_string()]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    assert_eq!(reader.join().expect("the reader ends").expect("readable"), "a 1\n");
    assert_eq!(stage.left(), ["pipe"]);
}

#[test]
fn a_refusal_by_the_proxy_and_a_failure_of_the_exporter_are_reported_differently() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = closed.local_addr().expect("bound").port();
    drop(closed);
    let pki = Pki::new();
    let section = format!("[e]\nenabled = True\nhost = 127.0.0.1\nport = {port}\npath = /m\n");
    let proxy = Proxy::start(&pki.config_ini(""), &section);
    let exporter = Exporter::start(answering(""));
    let stage = Stage { pki, proxy, exporter, files: Files::new("", "") };
    assert_failed(
        &stage.get(&[]),
        &["exporter: the proxy answered 502 exporter refused the connection", "probe"],
    );
    let mut arguments = stage.arguments(&[]);
    arguments[1] = "other".to_owned();
    let ended = run(arguments.iter().map(String::as_str));
    assert_failed(&ended, &["proxy: the proxy answered 404 Unknown exporter", "/prometheus"]);
    assert_eq!(ended.out, [""; 0]);
}

#[test]
fn errors_of_tls_and_of_the_network_are_reported() {
    let stage = Stage::new(answering("a 1\n"));
    let (url, other) = (stage.url(), Pki::new());
    let path = |pki: &Pki, name: &str| pki.path(name).display().to_string();
    let (ca, cert, key) =
        (path(&stage.pki, "ca.pem"), path(&other, "client.pem"), path(&other, "client.key"));
    let get =
        |more: &[&str]| run(["get", "e", "--url", &url].into_iter().chain(more.iter().copied()));

    assert_failed(&get(&["--cacert", &ca]), &["TLS: no answer", "--cert and --key"]);
    assert_failed(
        &get(&["--cacert", &ca, "--cert", &cert, "--key", &key]),
        &["TLS: no answer", "a client certificate of the CA in the proxy's `client-ca`"],
    );
    assert_failed(
        &get(&["--cacert", &path(&other, "ca.pem")]),
        &["TLS: the TLS handshake with ", "--cacert"],
    );
    assert_failed(&get(&["--cacert", &path(&other, "none.pem")]), &["client: --cacert: "]);
    let plain = url.replace("https", "http");
    assert_failed(
        &run(["get", "e", "--url", &plain]),
        &["client: no answer", "use https:// in --url"],
    );
    assert_eq!(get(&["--cert", &cert]).code, Some(2), "a certificate without its key");

    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = format!("http://{}", closed.local_addr().expect("bound"));
    drop(closed);
    assert_failed(
        &run(["get", "e", "--url", &nobody]),
        &["network: cannot connect to ", "refused"],
    );
}

#[test]
fn a_certificate_for_another_name_is_accepted_only_on_request() {
    let stage = Stage::new(answering("a 1\n"));
    // On Linux, all of 127.0.0.0/8 is this host. The certificate names only 127.0.0.1.
    let proxy = Proxy::start_through(
        Command::new("env"),
        &stage.pki.config_ini(""),
        &stage.exporter.section("e"),
        &["--listen", "127.0.0.2:0"],
    );
    let mut arguments = stage.arguments(&[]);
    arguments[3] = format!("https://{}", proxy.address());
    assert_failed(&run(arguments.iter().map(String::as_str)), &["TLS: ", "--insecure"]);
    let at = arguments.iter().position(|it| it == "--cacert").expect("given");
    arguments.splice(at..at + 2, ["--insecure".to_owned()]);
    assert_eq!(run(arguments.iter().map(String::as_str)).code, Some(0));
}

#[test]
fn repeated_scrapes_keep_the_first_body_and_report_the_spread_of_times() {
    let stage = Stage::new(answering("a 1\n"));
    let ended = stage.get(&["--repeat", "5"]);
    assert_eq!((ended.code, ended.out.len()), (Some(0), 1), "{}", ended.errors());
    for words in ["complete: 5 scrapes, 20 bytes in all", "first byte: min ", "total: min "] {
        assert!(ended.errors().contains(words), "{}", ended.errors());
    }
    assert!(ended.errors().contains(", p99 "), "{}", ended.errors());
    assert_eq!(stage.exporter.requests().len(), 5);
}

#[test]
fn an_endless_body_ends_at_the_timeout() {
    let (stage, gate) = Stage::halting();
    let ended = stage.get(&["--timeout", "1", "--output", &stage.output()]);
    assert_failed(
        &ended,
        &["exporter: the answer was cut off after 4 bytes", "a longer --timeout"],
    );
    assert_eq!(stage.left(), [""; 0]);
    gate.open();
}

#[test]
fn an_interrupt_leaves_no_partial_file() {
    let (stage, gate) = Stage::halting();
    let mut child = Killed(
        Command::new(binary())
            .args(stage.arguments(&["--output", &stage.output()]))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs"),
    );
    let errors = LineLog::follow("standard error", child.0.stderr.take().expect("piped"));
    wait_until("a temporary file", || stage.left().len() == 1);
    let pid = nix::unistd::Pid::from_raw(child.0.id().try_into().expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("sent");
    errors.wait_for_end();
    assert_eq!(child.0.wait().expect("ours").code(), Some(1));
    assert_eq!(stage.left(), [""; 0]);
    gate.open();
}

#[test]
fn a_closed_pipe_ends_get_without_an_error_message() {
    let stage = Stage::new(|conversation: &mut Conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::Chunked(64 << 10), Body::text(64 << 20))
    });
    let mut child = Killed(
        Command::new(binary())
            .args(stage.arguments(&[]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs"),
    );
    let errors = LineLog::follow("standard error", child.0.stderr.take().expect("piped"));
    let mut out = child.0.stdout.take().expect("piped");
    out.read_exact(&mut [0; 1024]).expect("the first bytes");
    drop(out);
    errors.wait_for_end();
    assert_eq!(child.0.wait().expect("ours").code(), Some(1), "an incomplete body");
    assert_eq!(errors.lines(), [""; 0]);
}

#[test]
fn the_memory_does_not_grow_with_the_body() {
    let gate = Gate::default();
    let opened = gate.clone();
    const SIZE: u64 = 64 << 20;
    let stage = Stage::new(move |conversation: &mut Conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::Chunked(64 << 10), Body::text(SIZE))?;
        opened.wait();
        Ok(())
    });
    let child = Killed(
        Command::new(binary())
            .args(stage.arguments(&["--output", "/dev/null"]))
            .args(["--repeat", "2"])
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs"),
    );
    // The first body has been read completely when `get` makes the second request.
    wait_until("a second scrape", || stage.exporter.requests().len() == 2);
    let status =
        fs::read_to_string(format!("/proc/{}/status", child.0.id())).expect("a running process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 32 << 10, "{peak} KiB for a body of {SIZE} bytes");
    gate.open();
}

#[test]
fn a_terminal_gets_a_progress_bar() {
    let (stage, gate) = Stage::halting();
    let words: Vec<_> = stage
        .arguments(&["--output", &stage.output()])
        .iter()
        .map(|it| format!("'{it}'"))
        .collect();
    let command = format!("'{}' {}", binary().display(), words.join(" "));
    // `script` (util-linux) runs the command on a pseudo-terminal.
    let mut child = Killed(
        Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs"),
    );
    let mut screen = child.0.stdout.take().expect("piped");
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("first byte ") || !seen.contains(" of 8 B") {
        let read = screen.read(&mut buffer).expect("a terminal");
        assert!(read > 0, "no progress bar: {seen:?}");
        seen += &String::from_utf8_lossy(&buffer[..read]);
    }
    gate.open();
    let mut rest = String::new();
    screen.read_to_string(&mut rest).expect("a terminal");
    assert!(rest.contains("complete: 8 bytes"), "{rest:?}");
    assert!(child.0.wait().expect("ours").success());
}
