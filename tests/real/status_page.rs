//! The status page in a real browser, on a phone and on a wide screen.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    PATIENCE,
    body::Body,
    client::Client,
    exporter::{Conversation, Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};
use tempfile::TempDir;

/// Plain HTTP on loopback, because giving a browser a client certificate is complicated.
const CONFIG: &str =
    "[default]\naddress = 127.0.0.1\n[proxy]\ninsecure-plain-http = True\nlog-format = json\n";

/// Scrapes over a new connection and discards the response.
fn scrape(proxy: &Proxy, name: &str) {
    let mut socket = TcpStream::connect(proxy.address()).expect("connected");
    let request =
        format!("GET /prometheus?exporter={name} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    socket.read_to_end(&mut Vec::new()).expect("an answer");
}

/// Runs Chromium on the page until it exits.
fn chromium(proxy: &Proxy, arguments: &[&str]) -> Vec<u8> {
    chromium_at(&format!("http://{}/", proxy.address()), arguments)
}

fn chromium_at(url: &str, arguments: &[&str]) -> Vec<u8> {
    let profile = TempDir::with_prefix("scrapegate-chromium-").expect("a temporary folder");
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(url)
        .stderr(Stdio::null())
        .output()
        .expect("chromium runs");
    assert!(output.status.success(), "{:?}", output.status);
    output.stdout
}

/// The text in the card of an exporter, as the browser parsed the page.
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
        // The page must show this response time.
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

/// Finds layout mistakes in each frame: text outside the window or over other text, and columns too
/// narrow to read.
const MEASURE: &str = r#"
const wrong = [];
let measured = 0;
for (const frame of document.querySelectorAll('iframe')) {
    const complain = words => wrong.push(`${frame.title}: ${words}`);
    const root = frame.contentDocument.documentElement;
    if (root.clientWidth !== frame.clientWidth) complain(`${root.clientWidth} wide`);
    if (root.scrollWidth > root.clientWidth) complain(`scrolls sideways: ${root.scrollWidth}`);
    const leaves = [...frame.contentDocument.body.querySelectorAll('*')]
        .filter(it => it.children.length === 0 && it.textContent.trim() !== '');
    // The rectangle of the text itself, which may be larger than its element.
    const boxes = leaves.map(it => {
        const range = frame.contentDocument.createRange();
        range.selectNodeContents(it);
        return {it, box: range.getBoundingClientRect()};
    });
    for (const {it, box} of boxes) {
        measured += 1;
        const text = it.textContent.slice(0, 40);
        if (box.left < 0 || box.right > root.clientWidth + 0.5) complain(`outside: ${text}`);
        if (it.matches('.files > dt, .files > dd') && it.clientWidth < 200) {
            complain(`narrow: ${it.clientWidth}: ${text}`);
        }
        for (const {it: other, box: beside} of boxes) {
            if (other === it || other.parentElement !== it.parentElement) continue;
            const width = Math.min(box.right, beside.right) - Math.max(box.left, beside.left);
            const height = Math.min(box.bottom, beside.bottom) - Math.max(box.top, beside.top);
            // The rectangle of an inline element with several lines also covers the text between
            // them. Only blocks are compared.
            if (it.matches('span, a') || other.matches('span, a')) continue;
            if (width > 1 && height > 1) complain(`over each other: ${text}`);
        }
    }
}
document.querySelector('pre').textContent = JSON.stringify({measured, wrong});
"#;

/// Escapes a text as an attribute value.
fn attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;")
}

/// The page that the proxy sends to its clients.
fn page(pki: &Pki, proxy: &Proxy) -> String {
    let client = Client::connect(proxy.address(), pki.client(BOTH_VERSIONS));
    client.expect("a handshake").get("/").body.text()
}

/// Copies the files of `pki` to a folder with a long path, and writes a `config.ini` that names
/// them.
fn long_paths(pki: &Pki, folder: &Path) -> String {
    let deep = folder.join("etc/openitcockpit-agent/generated-by-configuration-management").join(
        "node1.monitoring.emea.example.org/a_name_without_any_place_at_which_a_line_could_end_well",
    );
    fs::create_dir_all(&deep).expect("a folder");
    for file in ["ca.pem", "server.pem", "server.key"] {
        fs::copy(pki.path(file), deep.join(file)).expect("copied");
    }
    let config = pki.config_ini("");
    let shallow = pki.path("ca.pem").parent().expect("a folder").display().to_string();
    config.replace(&shallow, &deep.display().to_string())
}

#[test]
fn f36_the_page_is_readable_at_every_width_with_long_paths_and_names() {
    let folder = TempDir::with_prefix("scrapegate-layout-").expect("a temporary folder");
    let pki = Pki::new();
    let config = long_paths(&pki, folder.path());
    let gone = Exporter::start(|_: &mut Conversation| Ok(())).section("x");
    let section = |name: &str| gone.replace("[x]", &format!("[{name}]"));
    let [long, blanks] = ["n".repeat(128), "many words ".repeat(11).trim().to_owned()];
    let states = section(&long)
        + &section(&blanks)
        + &section("late")
        + "interval = 0.05\ntimeout = 0.05\n"
        + &section("never");
    let many: String = (0..200).map(|it| section(&format!("exporter_{it}"))).collect();

    let mut frames = String::new();
    for (what, sections) in [("states", states), ("many", many), ("none", String::new())] {
        let proxy = Proxy::start(&config, &sections);
        if what == "states" {
            let client = Client::connect(proxy.address(), pki.client(BOTH_VERSIONS));
            let mut client = client.expect("a handshake");
            for name in [&long, &blanks.replace(' ', "+"), "late"] {
                client.get(&format!("/prometheus?exporter={name}"));
            }
        }
        let limit = Instant::now() + PATIENCE;
        let html = loop {
            let html = page(&pki, &proxy);
            if what != "states" || html.contains("but not scraped") && html.contains("3 failing") {
                break html;
            }
            assert!(Instant::now() < limit, "nothing is overdue in\n{html}");
        };
        assert!(html.contains("at_which_a_line_could_end_well/server.pem"), "{html}");
        for width in [320, 390, 768, 1280] {
            frames += &format!(
                "<iframe title=\"{what} at {width}\" width={width} height=900 frameborder=0 \
                 srcdoc=\"{}\"></iframe>",
                attribute(&html)
            );
        }
    }
    let file = folder.path().join("frames.html");
    let script = format!("<script>onload = () => {{ {MEASURE} }};</script>");
    fs::write(&file, format!("<!DOCTYPE html><meta charset=utf-8><pre></pre>{frames}{script}"))
        .expect("written");
    let url = format!("file://{}", file.display());
    let arguments = ["--hide-scrollbars", "--window-size=1400,1000", "--dump-dom"];
    let dom = String::from_utf8(chromium_at(&url, &arguments)).expect("text");
    let (_, rest) = dom.split_once("<pre>").expect("the verdict");
    let verdict: serde_json::Value =
        serde_json::from_str(rest.split("</pre>").next().unwrap_or_default()).expect("JSON");
    assert_eq!(verdict["wrong"], serde_json::json!([]), "{verdict:#}");
    assert!(verdict["measured"].as_u64() > Some(4 * 200), "{verdict}");
}
