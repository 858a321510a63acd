//! The system refuses new threads (F04). At the start this is an error; later it fails only the
//! operation that needs the thread.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use scrapegate_harness::{
    client::Client,
    exporter::Exporter,
    log::LineLog,
    metrics::Samples,
    pki::{BOTH_VERSIONS, Pki},
    proxy::{ANYWHERE, Proxy, binary},
};

use crate::{Ended, Killed, run_command};

/// A command that executes the arguments that follow as a user to whom the limit applies. Root may
/// have any number of threads. The user keeps the right to read all files.
fn as_limited_user(user: u32) -> Vec<String> {
    if fs::metadata("/proc/self").is_ok_and(|process| process.uid() != 0) {
        return vec!["env".to_owned()];
    }
    let user = format!("--reuid={user}");
    ["setpriv", &user, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        .map(str::to_owned)
        .into()
}

/// Sets the limit as the same user, because root may lack the privilege to set limits of others.
fn set_limit(somebody: &[String], pid: u32, limit: &str) {
    let status = Command::new(&somebody[0])
        .args(&somebody[1..])
        .arg("prlimit")
        .args([format!("--pid={pid}"), format!("--nproc={limit}:")])
        .status()
        .expect("prlimit runs");
    assert!(status.success(), "the limit {limit} was not set");
}

#[test]
fn f04_if_a_thread_is_refused_at_the_start_the_process_exits_with_71_and_the_cause() {
    let pki = Pki::new();
    let files = crate::Files::new(&pki.config_ini("worker-threads = 2\n"), "");
    let config = files.config();
    // The limits refuse the logger's thread, the first worker, and the second worker.
    for limit in 1..=3 {
        let limit = format!("--nproc={limit}:{limit}");
        let arguments = [limit, "--".to_owned()].into_iter().chain(as_limited_user(54_321));
        let binary = binary().display().to_string();
        let run = [&binary, "run", "--config", &config, "--listen", "127.0.0.1:0"];
        let arguments: Vec<String> = arguments.chain(run.map(str::to_owned)).collect();
        let Ended { code, err, .. } =
            run_command("prlimit".as_ref(), arguments.iter().map(String::as_str));
        assert_eq!(code, Some(71), "{arguments:?}: {err:#?}");
        let cause = err.iter().find(|line| line.contains("Resource temporarily unavailable"));
        assert!(cause.is_some_and(|line| line.contains("thread")), "{err:#?}");
        assert!(!err.iter().any(|line| line.contains("panicked")), "{err:#?}");
    }
}

#[test]
fn f04_if_a_thread_is_refused_only_the_lookup_or_reload_fails() {
    let pki = Pki::new();
    let exporter = Exporter::start(|conversation| {
        conversation.read_request()?;
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
    });
    let named = "[named]\nenabled = True\nhost = exporter.invalid\nport = 1\npath = /m\n";
    let somebody = as_limited_user(54_322);
    let mut command = Command::new(&somebody[0]);
    command.args(&somebody[1..]).stdin(Stdio::null());
    let mut proxy = Proxy::start_through(
        command,
        &pki.config_ini("http-reload = True\nreload-interval = 0.2\n"),
        &(exporter.section("e") + named),
        ANYWHERE,
    );
    let connect = || Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("in");
    let mut client = connect();
    let mut scrape = |name: &str| {
        let answer = client.get(&format!("/prometheus?exporter={name}"));
        (answer.head.status, answer.head.reason)
    };
    let out = "proxy is out of file descriptors, threads or memory";
    set_limit(&somebody, proxy.pid(), "1");

    assert_eq!(scrape("named"), (503, out.to_owned()));
    let record = proxy.wait_for_scrape("named");
    assert_eq!(record["blame"], "proxy");
    let cause = record["cause"].as_str().expect("a cause");
    assert!(cause.contains("refused a thread for the name lookup"), "{cause}");

    let mut asks = connect();
    asks.send("POST /-/reload HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
    let answer = asks.read_response().expect("an answer");
    assert_eq!((answer.head.status, answer.head.reason.as_str()), (503, out));
    let reloaded = "scrapegate_config_last_reload_successful";
    assert_eq!(Samples::of(&mut asks).value(reloaded), 0.0);
    proxy.signal("HUP");
    let mut refused = 2;
    proxy.wait_for_log("two refused reloads", |record| {
        let message = record["fields"]["message"].as_str().unwrap_or_default();
        refused -= usize::from(message.starts_with("reload failed"));
        refused == 0
    });
    proxy.wait_for_line(&[
        "cannot check the files for changes",
        "refused a thread for the file check",
    ]);
    assert_eq!(scrape("e").0, 200);
    assert_eq!(connect().get("/-/healthy").head.status, 200);

    // The next check of the files succeeds without any action by an operator.
    set_limit(&somebody, proxy.pid(), "4096");
    proxy.wait_for_log("a reload", |record| record["fields"]["message"] == "reloaded");
    assert_eq!(Samples::of(&mut asks).value(reloaded), 1.0);
    assert_eq!(scrape("named").0, 502);
    let looks = proxy.log_lines();
    let looks = looks.iter().filter(|line| line.contains("cannot check the files for changes"));
    assert_eq!(looks.count(), 1, "one record for all failures");
    proxy.signal("TERM");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn f04_if_a_thread_is_refused_the_password_check_fails_and_the_next_one_succeeds() {
    let pki = Pki::new();
    let hash = bcrypt::hash("secret", 4).expect("a hash");
    let config =
        pki.config_ini("").replace("[default]\n", &format!("[default]\nauth = user:{hash}\n"));
    let somebody = as_limited_user(54_324);
    let mut command = Command::new(&somebody[0]);
    command.args(&somebody[1..]).stdin(Stdio::null());
    let mut proxy = Proxy::start_through(command, &config, "", ANYWHERE);
    let mut client = Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("in");
    let token = STANDARD.encode("user:secret");
    let mut ask = || {
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {token}\r\n\r\n");
        client.send(request).expect("sent");
        client.read_response().expect("an answer")
    };
    set_limit(&somebody, proxy.pid(), "1");
    let refused = ask();
    assert_eq!((refused.head.status, refused.head.reason.as_str()), (503, "password check failed"));
    proxy.wait_for_line(&["password_check_failed", "Resource temporarily unavailable"]);

    set_limit(&somebody, proxy.pid(), "4096");
    let page = ask();
    assert_eq!(page.head.status, 200, "the same password, over the same connection");
    let samples = Samples::parse(&page.body.text());
    let counted = "scrapegate_http_rejected_total{reason=\"password_check_failed\"}";
    assert_eq!(samples.value(counted), 1.0);
    proxy.signal("TERM");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn f04_the_demo_reports_a_refused_thread() {
    let arguments: Vec<String> = ["--nproc=1:1", "--"]
        .map(str::to_owned)
        .into_iter()
        .chain(as_limited_user(54_323))
        .chain([binary().display().to_string(), "demo".to_owned(), "--series=10".to_owned()])
        .collect();
    let child = Command::new("prlimit")
        .args(&arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("prlimit runs");
    let mut child = Killed(child);
    let err = LineLog::follow("standard error", child.0.stderr.take().expect("piped"));
    err.wait_for_end();
    assert_eq!(child.0.wait().expect("ours").code(), Some(71), "{:#?}", err.lines());
    assert!(err.lines().iter().any(|line| line.contains("thread")), "{:#?}", err.lines());
}
