//! `scrapegate sd`: the address of the proxy that it prints, and the configuration for it.

use scrapegate_harness::pki::Pki;
use serde_json::{Value, json};

use crate::{Ended, Files, run};

const EXPORTERS: &str = "[node]\nenabled = yes\nport = 9100\npath = /metrics\ninterval = 30\n\
    \n[off]\nport = 9101\npath = /metrics\n\
    \n[a \"b\"]\nenabled = yes\nport = 9102\npath = /metrics\ntimeout = 2.5\n";

#[track_caller]
fn sd(files: &Files, arguments: &[&str]) -> Ended {
    run(["sd", "--config", &files.config()].into_iter().chain(arguments.iter().copied()))
}

/// Files with these lines at the end of `[proxy]`.
fn files(proxy_keys: &str) -> (Pki, Files) {
    let pki = Pki::new();
    let files = Files::new(&pki.config_ini(proxy_keys), EXPORTERS);
    (pki, files)
}

#[track_caller]
fn text(ended: &Ended) -> String {
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    assert!(ended.err.is_empty(), "{:#?}", ended.err);
    ended.out.join("\n")
}

#[test]
fn http_sd_and_file_sd_list_the_enabled_exporters_at_the_advertised_address() {
    let (_pki, files) = files("advertise = node1.example.org\n");
    for format in [&[][..], &["--format", "http_sd"], &["--format", "file_sd"]] {
        let said: Value = serde_json::from_str(&text(&sd(&files, format))).expect("JSON");
        let names: Vec<_> =
            said.as_array().expect("a list").iter().map(|it| &it["labels"]["exporter"]).collect();
        assert_eq!(names, ["node", "a \"b\""]);
        assert_eq!(said[0]["targets"], json!(["node1.example.org:3333"]));
        assert_eq!(said[0]["labels"]["__scrape_interval__"], "30s");
        assert_eq!(said[1]["labels"]["__scrape_timeout__"], "2500ms");
    }
}

#[test]
fn without_advertise_the_address_is_the_host_name_and_the_port() {
    let (_pki, files) = files("");
    let hostname = gethostname::gethostname().into_string().expect("UTF-8");
    let ended = sd(&files, &["--listen", "127.0.0.1:4444"]);
    let said: Value = serde_json::from_str(&text(&ended)).expect("JSON");
    assert_eq!(said[0]["targets"], json!([format!("{hostname}:4444")]));

    let ended = sd(&files, &["--listen", "127.0.0.1:0"]);
    assert_eq!(ended.code, Some(2), "{:#?}", ended.out);
    assert!(ended.errors().contains("advertise"), "{}", ended.errors());
}

#[test]
fn scrape_config_has_one_job_with_http_sd_or_one_job_for_each_exporter() {
    let (_pki, files) = files("advertise = node1.example.org\n");
    let discovered = text(&sd(&files, &["--format", "scrape_config"]));
    let url =
        "      - url: \"https://node1.example.org:3333/prometheus/sd\"\n        tls_config:\n";
    assert!(discovered.contains(url), "{discovered}");
    assert!(!discovered.contains("node\""), "no exporter is named: {discovered}");

    let fixed = text(&sd(&files, &["--format", "scrape_config", "--static"]));
    for line in [
        "  - job_name: \"a \\\"b\\\"\"",
        "      exporter: [\"node\"]",
        "    scrape_interval: 30s",
        "    scrape_timeout: 2500ms",
        "      - targets: [\"node1.example.org:3333\"]",
    ] {
        assert!(fixed.lines().any(|it| it == line), "{line:?} not in {fixed}");
    }
    assert_eq!(sd(&files, &["--static"]).code, Some(2));
}

/// The alerts and the dashboard in `packaging` select the job `scrapegate`.
#[test]
fn f35_a_scrape_configuration_includes_a_job_for_the_proxy_itself() {
    let (pki, files) = files("advertise = node1.example.org\n");
    let own = |more: &[&str]| {
        let printed = text(&sd(&files, &[&["--format", "scrape_config"], more].concat()));
        let (_, own) = printed.split_once("  - job_name: scrapegate\n").expect("its own job");
        assert!(!printed.contains("job_name: \"scrapegate\""), "a duplicate job: {printed}");
        own.to_owned()
    };
    for more in [&[][..], &["--static"]] {
        let job = own(more);
        assert!(job.starts_with("    scheme: https\n    tls_config:\n"), "{job}");
        assert!(job.ends_with("      - targets: [\"node1.example.org:3333\"]"), "{job}");
        assert!(!job.contains("metrics_path"), "{job}");
    }

    // An exporter with the same name as the job, and no exporters at all.
    let named =
        EXPORTERS.replace("[node]", "[scrapegate]").replace("[off]", "[scrapegate_exporter]");
    let enabled = "enabled = yes\nport = 9101";
    files.write("prometheus_exporters.ini", &named.replace("port = 9101", enabled));
    own(&["--static"]);
    let printed = text(&sd(&files, &["--format", "scrape_config", "--static"]));
    let jobs: Vec<&str> = printed.lines().filter(|line| line.contains("job_name:")).collect();
    assert_eq!(
        jobs,
        [
            "  - job_name: \"scrapegate_exporter_exporter\"",
            "  - job_name: \"scrapegate_exporter\"",
            "  - job_name: \"a \\\"b\\\"\"",
            "  - job_name: scrapegate",
        ]
    );
    assert!(printed.contains("exporter: [\"scrapegate\"]"), "{printed}");
    files.write("prometheus_exporters.ini", "");
    own(&["--static"]);
    files.write(
        "config.ini",
        &pki.config_ini("").replace("[default]\n", "[default]\nauth = me:x\n"),
    );
    assert!(own(&[]).contains("    basic_auth:\n      username: \"me\"\n"), "{}", own(&[]));
}

#[test]
fn the_output_has_a_placeholder_for_the_password_and_never_the_password() {
    let pki = Pki::new();
    let config = pki.config_ini("").replace("[default]\n", "[default]\nauth = me:s3cret\n");
    let files = Files::new(&config, EXPORTERS);
    for format in ["scrape_config", "openitcockpit"] {
        let said = text(&sd(&files, &["--format", format]));
        assert!(said.contains("username: \"me\"") && !said.contains("s3cret"), "{said}");
    }
}

#[test]
fn openitcockpit_has_path_port_and_yaml_of_each_exporter() {
    let (_pki, files) = files("advertise = node1.example.org:3334\n");
    let said = text(&sd(&files, &["--format", "openitcockpit"]));
    for line in [
        "#   metrics path     /prometheus",
        "#   port             3334",
        "#   scrape timeout   2500ms",
        "  exporter: [\"node\"]",
        "  exporter: [\"a \\\"b\\\"\"]",
        "  ca_file: /opt/openitc/agent/server_ca.pem",
    ] {
        assert!(said.lines().any(|it| it == line), "{line:?} not in {said}");
    }
}

#[test]
fn files_with_mistakes_or_without_exporters_produce_no_output() {
    let (pki, files) = files("advertise = a b\n");
    let ended = sd(&files, &[]);
    assert_eq!((ended.code, ended.out.len()), (Some(78), 0), "{:#?}", ended.out);
    assert!(ended.errors().contains("[proxy] advertise: error"), "{}", ended.errors());

    files.write("config.ini", &pki.config_ini("\n[prometheus]\nenabled = no\n"));
    assert_eq!(sd(&files, &[]).code, Some(78));
    files.write("config.ini", &pki.config_ini(""));
    files.write("prometheus_exporters.ini", "");
    assert_eq!(text(&sd(&files, &["--format", "file_sd"])), "[]");
}
