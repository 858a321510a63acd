//! The effect of a reload on what the files configure.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
};

use scrapegate_harness::{
    client::Client,
    odd_file::OddFile,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};
use serde_json::Value;

use super::{DONE, EXPORTERS, REFUSED, assert_status, connect, exporter, halting, reload, write};
#[test]
fn exporters_are_added_removed_and_moved_without_a_new_connection() {
    let pki = Pki::new();
    let (one, two) = (exporter(100), exporter(200));
    let proxy = Proxy::start(&pki.config_ini(""), &(one.section("stays") + &one.section("goes")));
    let mut client = connect(&pki, &proxy);
    assert_status(&mut client, "stays", 200);
    assert_status(&mut client, "comes", 404);

    write(&proxy, EXPORTERS, &(two.section("stays") + &two.section("comes")));
    assert_status(&mut client, "goes", 200);
    reload(&proxy, DONE, 1);
    for (name, status) in [("stays", 200), ("comes", 200), ("goes", 404)] {
        assert_status(&mut client, name, status);
    }
    assert_eq!(two.connections(), 2, "both are the other exporter now");
}

#[test]
fn a_mistake_in_any_file_changes_nothing_and_is_reported() {
    let pki = Pki::new();
    let one = exporter(100);
    let config = pki.config_ini("");
    let proxy = Proxy::start(&config, &one.section("before"));
    let mut client = connect(&pki, &proxy);
    let good = one.section("after");
    for (count, (file, text)) in [
        (EXPORTERS, good.clone() + "[half\n"),
        (EXPORTERS, good.clone() + "[empty]\nenabled = true\nport = 0\n"),
        ("config.ini", config.replace("server.pem", "none.pem")),
        ("config.ini", "[default]\n".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        write(&proxy, "config.ini", &config);
        write(&proxy, EXPORTERS, &good);
        write(&proxy, file, &text);
        reload(&proxy, REFUSED, count + 1);
        assert_status(&mut client, "before", 200);
        assert_status(&mut client, "after", 404);
        assert_status(&mut connect(&pki, &proxy), "before", 200);
        proxy.wait_for_log("the place of the mistake", |record| {
            let at = record["fields"]["at"].as_str().unwrap_or_default();
            record["level"] == "ERROR" && at.contains(file)
        });
    }
    write(&proxy, "config.ini", &config);
    reload(&proxy, DONE, 1);
    assert_status(&mut client, "after", 200);
}

#[test]
fn a_scrape_in_flight_keeps_its_exporter_and_its_permit() {
    let pki = Pki::new();
    let (slow, gate) = halting();
    let section = slow.section("slow") + "max-concurrent = 1\n";
    let proxy = Proxy::start(&pki.config_ini(""), &section);
    let mut client = connect(&pki, &proxy);
    client.send_get("/prometheus?exporter=slow").expect("the request is sent");
    let head = client.read_head().expect("a head");

    write(&proxy, EXPORTERS, &(exporter(100).section("new") + &section));
    reload(&proxy, DONE, 1);
    assert_status(&mut connect(&pki, &proxy), "slow", 503);
    write(&proxy, EXPORTERS, &exporter(100).section("new"));
    reload(&proxy, DONE, 2);
    assert_status(&mut connect(&pki, &proxy), "slow", 404);
    gate.open();
    let body = client.read_body(&head);
    assert!(body.is_complete(), "{body:?}");
    assert_eq!(body.text(), "a 1\n");
    assert_status(&mut client, "slow", 404);
}

/// C27 on reload.
#[test]
fn a_new_server_certificate_is_used_for_new_connections() {
    let (old, new) = (Pki::new(), Pki::new());
    let one = exporter(100);
    let proxy = Proxy::start(&old.config_ini(""), &one.section("e"));
    let mut kept = connect(&old, &proxy);
    assert_status(&mut kept, "e", 200);

    // The certificate and the key do not match, as when a reload comes between writing the two
    // files.
    let config = old.config_ini("");
    let path = |pki: &Pki, file| pki.path(file).display().to_string();
    let half = config.replace(&path(&old, "server.pem"), &path(&new, "server.pem"));
    write(&proxy, "config.ini", &half);
    reload(&proxy, REFUSED, 1);
    assert_status(&mut connect(&old, &proxy), "e", 200);

    write(&proxy, "config.ini", &new.config_ini(""));
    reload(&proxy, DONE, 1);
    assert_status(&mut connect(&new, &proxy), "e", 200);
    assert!(Client::connect(proxy.address(), old.client(BOTH_VERSIONS)).is_err());
}

/// C28 on reload.
#[test]
fn an_expired_server_certificate_is_refused_and_the_old_one_stays_in_use() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(""), &one.section("e"));
    for (count, (days, words)) in
        [(-10..-1, "expired on"), (1..10, "is not valid before")].into_iter().enumerate()
    {
        pki.replace_server(days);
        reload(&proxy, REFUSED, count + 1);
        proxy.wait_for_log(words, |record| {
            let at = record["fields"]["at"].as_str().unwrap_or_default();
            let message = record["fields"]["message"].as_str().unwrap_or_default();
            record["level"] == "ERROR" && at.contains("certfile") && message.contains(words)
        });
        assert_status(&mut connect(&pki, &proxy), "e", 200);
    }
    pki.replace_server(-1..100);
    reload(&proxy, DONE, 1);
    assert_status(&mut connect(&pki, &proxy), "e", 200);
}

/// C28 on reload.
#[test]
fn f14_a_server_certificate_that_is_not_valid_yet_is_used_once_it_becomes_valid() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini("reload-interval = 1\n"), &one.section("e"));
    let begins = time::OffsetDateTime::now_utc() + time::Duration::seconds(5);
    pki.replace_server_between(begins, begins + time::Duration::DAY);
    reload(&proxy, REFUSED, 1);
    proxy.wait_for_log("a reload", |record| record["fields"]["message"] == DONE);
    assert!(time::OffsetDateTime::now_utc() >= begins.replace_nanosecond(0).expect("in range"));
    assert_status(&mut connect(&pki, &proxy), "e", 200);
}

/// C01 on reload.
#[test]
fn anything_that_is_not_a_file_is_refused_without_hanging_and_the_old_state_stays_in_use() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(""), &one.section("e"));
    let mut refused = 0;
    for file in [proxy.folder().join(EXPORTERS), pki.path("ca.pem"), pki.path("server.key")] {
        let kept = fs::read(&file).expect("readable");
        for kind in OddFile::ALL {
            kind.put(&file);
            refused += 1;
            reload(&proxy, REFUSED, refused);
            assert_status(&mut connect(&pki, &proxy), "e", 200);
        }
        OddFile::Missing.put(&file);
        fs::write(&file, kept).expect("written back");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a new mode");
    }
    reload(&proxy, DONE, 1);
    assert_status(&mut connect(&pki, &proxy), "e", 200);
}

#[test]
fn a_symbolic_link_is_followed_to_its_present_target() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(""), &one.section("before"));
    let folder = proxy.folder();
    fs::write(folder.join("next.ini"), one.section("after")).expect("written");
    symlink("next.ini", folder.join("link")).expect("a link");
    // An atomic change, as certificate managers make it.
    fs::rename(folder.join("link"), folder.join(EXPORTERS)).expect("renamed");
    reload(&proxy, DONE, 1);
    assert_status(&mut connect(&pki, &proxy), "after", 200);
}

#[test]
fn discovery_reports_mistakes_in_the_files_until_they_are_fixed() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(""), &one.section("before"));
    let mut client = connect(&pki, &proxy);
    let mut discovered = |status: u16| {
        let response = client.get("/prometheus/sd");
        assert_eq!(response.head.status, status, "{response:?}");
        (response.head.reason, response.body.text())
    };
    assert!(discovered(200).1.contains("before"));

    write(&proxy, EXPORTERS, "[after\n");
    assert!(discovered(200).1.contains("before"), "no reload has been requested yet");
    reload(&proxy, REFUSED, 1);
    assert_eq!(discovered(503).0, "configuration has mistakes");

    write(&proxy, EXPORTERS, &one.section("after"));
    reload(&proxy, DONE, 1);
    let (_, list) = discovered(200);
    assert!(list.contains("after") && !list.contains("before"), "{list}");
}

#[test]
fn after_many_signals_the_last_state_is_in_use() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(""), &one.section("e0"));
    for round in 1..30 {
        write(&proxy, EXPORTERS, &one.section(&format!("e{round}")));
        proxy.signal("HUP");
    }
    write(&proxy, EXPORTERS, &one.section("last"));
    proxy.signal("HUP");
    let mut client = connect(&pki, &proxy);
    let limit = std::time::Instant::now() + scrapegate_harness::PATIENCE;
    while client.get("/prometheus?exporter=last").head.status != 200 {
        assert!(std::time::Instant::now() < limit, "the last change is not in use");
    }
}

#[test]
fn keys_that_require_a_restart_are_reported() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(""), &one.section("e"));
    write(&proxy, "config.ini", &pki.config_ini("worker-threads = 1\nmax-connections = 99\n"));
    reload(&proxy, DONE, 1);
    let named = || {
        let lines = proxy.log_lines();
        let records = lines.iter().map(|line| serde_json::from_str(line).expect("a record"));
        let keys = records.filter(|record: &Value| record["level"] == "WARN");
        keys.map(|record| record["fields"]["key"].as_str().expect("a key").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(named(), ["worker-threads", "max-connections"]);

    // After the change is undone, the file agrees with the running process again.
    write(&proxy, "config.ini", &pki.config_ini(""));
    reload(&proxy, DONE, 2);
    assert_eq!(named().len(), 2, "{:?}", named());
}
