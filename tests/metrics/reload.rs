//! The effect of a reload on the metrics.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use scrapegate_harness::{
    body::Body,
    exporter::{Conversation, Exporter, Framing, Gate},
    pki::Pki,
};

use crate::setup::Setup;

const SUCCESSFUL: &str = "scrapegate_config_last_reload_successful";
const SUCCESS: &str = "scrapegate_config_last_reload_success_timestamp_seconds";

/// January 1, 2100, when the test's server certificate expires.
const EXPIRY: f64 = 4_102_444_800.0;

fn reload(setup: &Setup, exporters: &str) {
    fs::write(setup.proxy.folder().join("prometheus_exporters.ini"), exporters).expect("written");
    setup.proxy.signal("HUP");
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

#[test]
fn remaining_exporters_keep_their_counters_and_removed_ones_disappear() {
    let (held, gate) = (Gate::default(), Gate::default());
    let exporter = Exporter::start({
        let (held, gate) = (held.clone(), gate.clone());
        move |it: &mut Conversation| {
            if it.read_request()?.contains("?held") {
                held.open();
                gate.wait();
            }
            it.answer("", Framing::ContentLength, Body::text(100))
        }
    });
    let other = Exporter::start(|it: &mut Conversation| {
        it.read_request()?;
        it.answer("", Framing::ContentLength, Body::text(7))
    });
    let minutes = "interval = 300\ntimeout = 300\n";
    let before = exporter.section("stays") + minutes + &exporter.section("goes");
    let after = other.section("stays") + "max-concurrent = 9\n" + &other.section("comes");
    let setup = Setup::before(Pki::new(), exporter, "", &before);
    let of = |name: &str, exporter: &str| format!("scrapegate_{name}{{exporter=\"{exporter}\"}}");
    let bytes = "response_bytes_total";

    let mut client = setup.connect();
    for name in ["stays", "goes"] {
        assert_eq!(client.get(&format!("/prometheus?exporter={name}")).body.bytes, 100);
    }
    client.send_get("/prometheus?exporter=stays&held").expect("sent");
    held.wait();
    let samples = setup.wait_for("both", |it| it.value(&of(bytes, "goes")) == 100.0);
    assert_eq!(samples.value(&of(bytes, "stays")), 100.0);
    assert_eq!(samples.value(&of("scrapes_in_flight", "stays")), 1.0);

    reload(&setup, &after);
    let samples = setup.wait_for("reloaded", |it| it.get(&of(bytes, "comes")).is_some());
    assert_eq!(samples.value(&of(bytes, "comes")), 0.0);
    assert_eq!(samples.get(&of(bytes, "goes")), None);
    assert_eq!(samples.sum("scrapegate_scrapes_total{exporter=\"goes\""), 0.0);
    assert_eq!(samples.value(&of(bytes, "stays")), 100.0);
    assert_eq!(samples.value(&of("scrapes_in_flight", "stays")), 1.0);

    // A scrape in flight is counted for the exporter that it began with, which keeps its counters.
    gate.open();
    assert_eq!(client.read_response().expect("a response").body.bytes, 100);
    assert_eq!(client.get("/prometheus?exporter=stays").body.bytes, 7);
    let samples = setup.wait_for("the last", |it| it.value(&of(bytes, "stays")) == 207.0);
    assert_eq!(samples.value(&of("scrapes_in_flight", "stays")), 0.0);
    assert_eq!(samples.value(&of("scrape_duration_seconds_count", "stays")), 3.0);
}

#[test]
fn a_reload_reports_its_success_and_its_time() {
    let begun = now();
    let pki = Pki::new();
    let exporter = Exporter::start(|_: &mut Conversation| Ok(()));
    let good = exporter.section("x");
    let setup = Setup::before(pki, exporter, "", &good);
    let start = setup.samples();
    assert_eq!(start.value(SUCCESSFUL), 1.0);
    assert!(start.value(SUCCESS) >= begun - 1.0 && start.value(SUCCESS) <= now() + 1.0);

    reload(&setup, "[x]\nenabled = maybe\n");
    let failed = setup.wait_for("failed", |it| it.value(SUCCESSFUL) == 0.0);
    assert_eq!(failed.value(SUCCESS), start.value(SUCCESS));

    reload(&setup, &good);
    let fixed = setup.wait_for("fixed", |it| it.value(SUCCESSFUL) == 1.0);
    assert!(fixed.value(SUCCESS) > start.value(SUCCESS));
}

#[test]
fn each_certificate_file_has_its_expiry_time() {
    let setup = Setup::before(
        Pki::new(),
        Exporter::start(|_: &mut Conversation| Ok(())),
        "",
        "[x]\nenabled = True\nport = 9\npath = /\n",
    );
    let series = |file: &str| {
        let path = setup.pki.path(file);
        format!("scrapegate_certificate_expiry_timestamp_seconds{{file=\"{}\"}}", path.display())
    };
    let samples = setup.samples();
    assert_eq!(samples.value(&series("server.pem")), EXPIRY);
    assert!(samples.value(&series("ca.pem")) > now());
    assert_eq!(samples.starting_with("scrapegate_certificate_").count(), 2);

    // A new path, as after a renewal that writes new files.
    let renewed = setup.pki.path("renewed.pem");
    fs::copy(setup.pki.path("server.pem"), &renewed).expect("copied");
    let config = setup.proxy.folder().join("config.ini");
    let text = fs::read_to_string(&config).expect("config.ini");
    fs::write(&config, text.replace("server.pem", "renewed.pem")).expect("written");
    setup.proxy.signal("HUP");
    let samples = setup.wait_for("renewed", |it| it.get(&series("renewed.pem")).is_some());
    assert_eq!(samples.get(&series("server.pem")), None);
}
