//! A reload that hangs on a file (F03), as on an unreachable network file system. strace delays
//! each system call that names the file.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    PATIENCE,
    client::Client,
    exporter::Exporter,
    metrics::Samples,
    pki::{BOTH_VERSIONS, Pki, write_private},
    proxy::Proxy,
};

/// The longest time for the exit, which is less than the 30 s that a reload may take to read.
const END: Duration = Duration::from_secs(20);

/// The number of threads of the proxy that run a reload.
fn reloads(proxy: &Proxy) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("the proxy runs");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "reload").count()
}

#[test]
fn f03_during_a_hanging_reload_scrapes_are_answered_and_sigterm_ends_the_process() {
    let pki = Pki::new();
    let exporter = Exporter::start(|conversation| {
        conversation.read_request()?;
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
    });
    let token = pki.path("token");
    write_private(&token, "secret\n");
    let token = fs::canonicalize(token).expect("a path").display().to_string();
    // Ten minutes, in microseconds: longer than the test.
    let hang = "inject=statx,newfstatat,openat:delay_enter=600000000";
    let wrapper = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", &token, "-e", hang];
    let proxy = Proxy::start_beneath(
        &wrapper.map(Into::into),
        &pki.config_ini("http-reload = True\nreload-interval = 3600\ndrain-timeout = 5\n"),
        &exporter.section("e"),
    );
    let connect = || Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("in");
    let mut kept = connect();
    assert_eq!(kept.get("/prometheus?exporter=e").head.status, 200);

    let section = exporter.section("e") + &format!("bearer-token-file = {token}\n");
    fs::write(proxy.folder().join("prometheus_exporters.ini"), section).expect("written");
    proxy.signal("HUP");
    let begun = Instant::now();
    while reloads(&proxy) == 0 {
        assert!(begun.elapsed() < PATIENCE, "no reload: {:#?}", proxy.log_lines());
        thread::yield_now();
    }
    for client in [&mut kept, &mut connect()] {
        assert_eq!(client.get("/prometheus?exporter=e").head.status, 200);
        assert_eq!(client.get("/-/healthy").head.status, 200);
        assert_eq!(Samples::of(client).value("scrapegate_config_last_reload_successful"), 1.0);
    }

    assert_eq!(reloads(&proxy), 1, "{:#?}", proxy.log_lines());
    proxy.signal("TERM");
    proxy.wait_for_line(&["reload canceled: shutting down"]);
    // strace runs until its delay is over, so the test waits for the exit of the proxy's own
    // process.
    let state = || fs::read_to_string(format!("/proc/{}/stat", proxy.pid())).unwrap_or_default();
    let is_running =
        || state().rsplit(')').next().is_some_and(|it| !it.starts_with(" Z") && !it.is_empty());
    let begun = Instant::now();
    while is_running() {
        assert!(begun.elapsed() < END, "still there: {}", state());
        thread::yield_now();
    }
    let says = |words: &str| proxy.log_lines().iter().any(|line| line.contains(words));
    assert!(says("\"message\":\"stopped\""), "{:#?}", proxy.log_lines());
    assert!(!says("\"message\":\"reloaded\""), "{:#?}", proxy.log_lines());
}
