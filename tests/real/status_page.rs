//! The status page in a real browser: what it makes of it, on a phone and on a wide screen.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::{
    PATIENCE,
    body::Body,
    exporter::{Conversation, Exporter, Framing},
    proxy::Proxy,
};

/// On loopback without TLS: a browser has no simple way to be given a client certificate.
const CONFIG: &str =
    "[default]\naddress = 127.0.0.1\n[proxy]\ninsecure-plain-http = True\nlog-format = json\n";

/// Scrapes over a connection of its own, and throws away what comes.
fn scrape(proxy: &Proxy, name: &str) {
    let mut socket = TcpStream::connect(proxy.address()).expect("connected");
    let request =
        format!("GET /prometheus?exporter={name} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    socket.read_to_end(&mut Vec::new()).expect("an answer");
}

/// Chromium on the page, until it is done.
fn chromium(proxy: &Proxy, arguments: &[&str]) -> Vec<u8> {
    let profile = TempDir::with_prefix("scrapegate-chromium-").expect("a temporary folder");
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("http://{}/", proxy.address()))
        .stderr(Stdio::null())
        .output()
        .expect("chromium runs");
    assert!(output.status.success(), "{:?}", output.status);
    output.stdout
}

/// What stands in the card of an exporter, as the browser understood the page.
fn card<'a>(dom: &'a str, class: &str, name: &str) -> &'a str {
    let start = format!("<li class=\"{class}\"><h3>{name}</h3>");
    let (_, rest) = dom.split_once(&start).unwrap_or_else(|| panic!("no {start} in\n{dom}"));
    rest.split_once("</li>").expect("a whole card").0
}

/// Width and height of a PNG file (its header, RFC 2083 §4.1.1).
fn size(png: &Path) -> (u32, u32) {
    let bytes = fs::read(png).expect("a screenshot");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    (number(16), number(20))
}

#[test]
fn a_browser_shows_each_exporter_with_its_state() {
    let answer = |it: &mut Conversation| {
        it.read_request()?;
        it.answer("", Framing::ContentLength, Body::text(6400))
    };
    let up = Exporter::start(answer);
    let slow = Exporter::start(move |it| {
        // The slowness is what the page has to show.
        thread::sleep(Duration::from_millis(700));
        answer(it)
    });
    let down = {
        let gone = Exporter::start(answer);
        gone.section("down")
    };
    let late = up.section("late") + "interval = 0.3\ntimeout = 0.3\n";
    let sections = up.section("up")
        + &slow.section("slow")
        + &down
        + &late
        + &up.section("<b>never & \"quoted\"</b>")
        + &up.section("off").replace("enabled = True", "enabled = False");
    let proxy = Proxy::start(CONFIG, &sections);
    for name in ["up", "slow", "down", "late", "up"] {
        scrape(&proxy, name);
    }
    let limit = Instant::now() + PATIENCE;
    let dom = loop {
        let dom = String::from_utf8(chromium(&proxy, &["--dump-dom"])).expect("text");
        if dom.contains("overdue: expected") {
            break dom;
        }
        assert!(Instant::now() < limit, "nothing is overdue in\n{dom}");
    };

    assert!(dom.contains("5 exporters: 2 up, 1 failing, 1 overdue, 1 not scraped yet"), "{dom}");
    let it = card(&dom, "up", "up");
    assert!(it.contains("6.4 kB") && it.contains("2 scrapes, 0 failed"), "{it}");
    assert!(card(&dom, "failing", "down").contains("failing: exporter refused"));
    assert!(card(&dom, "overdue", "late").contains("1 scrape, 0 failed"));
    let it = card(&dom, "never", "&lt;b&gt;never &amp; \"quoted\"&lt;/b&gt;");
    assert!(it.contains("not scraped yet") && !it.contains("<svg"), "{it}");
    let it = card(&dom, "up", "slow");
    let exporter = it.split_once("exporter ").expect("the exporter's part").1;
    let millis: u32 = exporter.split(" ms").next().unwrap_or_default().parse().expect(it);
    assert!((700..5000).contains(&millis), "{it}");
    assert!(!dom.contains("<h3>off</h3>"), "a disabled exporter is absent");

    let folder = TempDir::with_prefix("scrapegate-pages-").expect("a temporary folder");
    for (width, scheme) in [(390, 0), (390, 1), (1280, 0), (1280, 1)] {
        let file = folder.path().join(format!("{width}-{scheme}.png"));
        let window = format!("--window-size={width},1500");
        let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
        let screenshot = format!("--screenshot={}", file.display());
        chromium(&proxy, &["--hide-scrollbars", &window, &scheme, &screenshot]);
        assert_eq!(size(&file), (width, 1500));
    }
}
