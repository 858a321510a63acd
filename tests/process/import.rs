//! `scrapegate import`: how the modules of exporter_exporter are converted.

use scrapegate_harness::pki::Pki;

use crate::{Ended, Files, line_of, run};

/// The modules of exporter_exporter's README, and further variants.
const MODULES: &str = "\
global: {}
defaultModule: node
modules:
  node:
    method: http
    http:
       port: 9100

  netdata:
    method: http
    timeout: 1m30s
    http:
       verify: no
       port: 19999
       address: 10.0.0.1
       path: '/api/v1/allmetrics?format=prometheus'

  blackbox:
    method: http
    timeout: 500ms
    http:
       port: 9115
       path: probe
       headers: {X-A: b}

  secret:
    method: http
    http:
       scheme: https
       port: 9443
       address: node1.example.org
       tls_ca_cert_file: ca.pem
       basic_auth_username: me
       basic_auth_password: s3cret

  misplaced:
    verify: false
    method: http
    http: {port: 4194, tls_insecure_skip_verify: true}

  somescript:
    method: exec
    timeout: 1s
    exec:
      command: /tmp/myscript.sh
  somefile:
    method: file
    file: {path: /tmp/x.prom}
  portless:
    method: http
  default:
    method: http
    http: {port: 1}
";

#[track_caller]
fn import(yaml: &str) -> (Ended, Files) {
    import_as("expexp.yaml", yaml)
}

#[track_caller]
fn import_as(name: &str, yaml: &str) -> (Ended, Files) {
    let files = Files::new("", "");
    files.write(name, yaml);
    (run(["import", &files.path(name).display().to_string()]), files)
}

#[test]
fn modules_become_sections_that_load_without_a_finding() {
    let (ended, _files) = import(MODULES);
    assert_eq!(ended.code, Some(1), "{}", ended.errors());
    let ini = ended.out.join("\n") + "\n";
    for section in [
        "[node]\nenabled = True\nmethod = http\nport = 9100\npath = /metrics\n",
        "[netdata]\nenabled = True\nmethod = http\nhost = 10.0.0.1\nport = 19999\n\
         path = /api/v1/allmetrics?format=prometheus\nintegrity = transport\ninterval = 90\n\
         timeout = 90\n",
        "[blackbox]\nenabled = True\nmethod = http\nport = 9115\npath = /probe\ntimeout = 0.5\n",
        "[secret]\nenabled = True\nmethod = https\nhost = node1.example.org\nport = 9443\n\
         path = /metrics\nca-file = ca.pem\nusername = me\npassword-file = secret.password\n",
        "[misplaced]\nenabled = True\nmethod = http\nport = 4194\npath = /metrics\n",
    ] {
        assert!(ini.contains(section), "{section} not in {ini}");
    }
    assert!(!ini.contains("s3cret") && !ended.errors().contains("s3cret"), "{ini}");
    assert_eq!(ini.matches('[').count(), 5, "{ini}");

    let pki = Pki::new();
    let files = Files::new(&pki.config_ini(""), &ini);
    std::fs::copy(pki.path("ca.pem"), files.path("ca.pem")).expect("copied");
    scrapegate_harness::pki::write_private(&files.path("secret.password"), "s3cret\n");
    let checked = files.check();
    assert_eq!(checked.code, Some(0), "{:#?}", checked.out);
    // For root, `check` adds a row with the user.
    let is_user = |line: &&String| line.starts_with("user ");
    let next = checked.out.iter().skip(1).find(|line| !is_user(line));
    let is_listen = next.is_some_and(|line| line.starts_with("listen"));
    assert!(is_listen, "no finding comes before: {:#?}", checked.out);
}

#[test]
fn keys_without_a_counterpart_are_reported_with_their_line() {
    let (ended, _files) = import(MODULES);
    for (line, words) in [
        ("defaultModule:", "`defaultModule` is not supported"),
        ("       headers:", "module blackbox: `headers`"),
        ("       basic_auth_password:", "module secret: write the password to `secret.password`"),
        ("    verify: false", "module misplaced: `verify` is not supported"),
        ("    http: {port: 4194", "module misplaced: `tls_…` is ignored"),
        ("  somescript:", "module somescript: skipped: method `exec`"),
        ("  somefile:", "module somefile: skipped: method `file`"),
        ("  portless:", "module portless: skipped: port: missing"),
        ("  default:", "module default: skipped: "),
    ] {
        let place = format!("expexp.yaml:{}: {words}", line_of(MODULES, line));
        assert!(ended.errors().contains(&place), "{place:?} not in {}", ended.errors());
    }
    assert_eq!(ended.err.len(), 10, "{:#?}", ended.err);
    assert_eq!(
        ended.err[9],
        "scrapegate: 5 modules imported, 4 skipped: somescript, somefile, portless, default"
    );
}

#[test]
fn each_key_that_omits_a_module_is_named() {
    let (ended, _files) = import(
        "modules:\n  a:\n    method: http\n    timeout: 25h\n    http: {port: x, path: /a b}\n",
    );
    let said = ended.errors();
    let (_, why) = said.split_once("module a: skipped: ").expect("skipped");
    let keys = ["port", "path", "interval", "timeout"];
    let named = why.split("; ").filter_map(|part| Some(part.split_once(": ")?.0));
    assert_eq!(named.collect::<Vec<_>>(), keys, "{why}");
}

#[test]
fn a_module_in_a_separate_file_is_named_after_the_file() {
    let (ended, _files) = import_as("mtail.v2.yaml", "method: http\nhttp:\n   port: 3903\n");
    assert_eq!((ended.code, ended.err.len()), (Some(0), 1), "{}", ended.errors());
    assert_eq!(ended.err[0], "scrapegate: 1 module imported");
    let section = "[mtail.v2]\nenabled = True\nmethod = http\nport = 3903\npath = /metrics";
    assert!(ended.out.join("\n").ends_with(section), "{:#?}", ended.out);

    let (ended, _files) = import_as("some.yml", "method: exec\nexec: {command: /tmp/x.sh}\n");
    assert_eq!((ended.code, ended.err.len()), (Some(1), 2), "{}", ended.errors());
    assert!(ended.errors().contains("some.yml:1: module some: skipped: "), "{}", ended.errors());
}

#[test]
fn a_file_of_another_kind_produces_no_output() {
    for (yaml, words) in [
        ("", "neither `modules` nor `method`"),
        ("scrape_configs: []\n", "neither `modules` nor `method`"),
        ("- method: http\n", "neither `modules` nor `method`"),
        ("modules: [\n", "not valid YAML"),
        ("modules:\n  a: {}\n  a: {}\n", "duplicated key"),
    ] {
        let (ended, _files) = import(yaml);
        assert_eq!((ended.code, ended.out.len()), (Some(78), 0), "{yaml:?}: {:#?}", ended.out);
        assert!(ended.errors().contains(words), "{yaml:?}: {}", ended.errors());
    }
    let missing = run(["import", "/nowhere/expexp.yaml"]);
    assert_eq!(missing.code, Some(78));
    assert_eq!(missing.errors().matches("the file does not exist").count(), 1, "f29: once");
}

#[test]
fn a_module_with_names_or_values_that_an_ini_file_cannot_hold_is_omitted() {
    let yaml = "modules:\n  'a]b':\n    method: http\n    http: {port: 1, path: \"/x\\ninterval = 5\"}\n\
                \x20 'b\\n[c]':\n    method: http\n    http: {port: 1}\n\
                \x20 good:\n    method: http\n    http: {port: 1}\n";
    let (ended, _files) = import(yaml);
    assert_eq!(ended.code, Some(1), "{}", ended.errors());
    let ini = ended.out.join("\n");
    assert!(ini.contains("[good]") && !ini.contains("interval"), "{ini}");
    assert!(ended.errors().contains("skipped"), "{}", ended.errors());
}

#[test]
fn every_module_gets_its_own_password_file() {
    let names = ["a b", "a_b", "a_b-2", "A_B", "a b c"];
    let modules = names.map(|name| {
        format!(
            "  {name}:\n    method: http\n    http: {{port: 1, basic_auth_username: {name}, \
             basic_auth_password: p}}\n"
        )
    });
    let (ended, _files) = import(&format!("modules:\n{}", modules.concat()));
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    let file_of = |name: &str| {
        let after = ended.out.iter().skip_while(|line| **line != format!("[{name}]"));
        let file = after.filter_map(|line| line.strip_prefix("password-file = ")).next();
        file.unwrap_or_else(|| panic!("no password file of {name} in {:#?}", ended.out)).to_owned()
    };
    assert_eq!(
        names.map(file_of),
        ["a_b.password", "a_b-2.password", "a_b-2-2.password", "A_B-3.password", "a_b_c.password"],
        "also on a case-insensitive file system"
    );
    for name in names {
        let words = format!("module {name}: write the password to `{}`", file_of(name));
        assert!(ended.errors().contains(&words), "{words:?} not in {}", ended.errors());
    }
}

#[test]
fn f30_merge_keys_are_expanded_and_names_are_kept_as_written() {
    let yaml = "\
x-base: &base
  method: http
  timeout: 25
  http: &http {address: 10.0.0.1, port: 1}
x-more: &more
  <<: *base
  timeout: 5s
modules:
  1.0: {<<: *base}
  on:
    <<: *more
    http: {<<: *http, port: 2}
  0x10: {<<: [*more, *base]}
  null: {method: http, http: {<<: [{port: 3}, *http]}}
  2026-01-01: {method: http, http: {port: 4}}
";
    let (ended, _files) = import(yaml);
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    let ini = ended.out.join("\n") + "\n";
    let section = |name: &str, host: &str, port: u32, rest: &str| {
        format!(
            "\n[{name}]\nenabled = True\nmethod = http\n{host}port = {port}\npath = /metrics\n{rest}"
        )
    };
    for section in [
        section("1.0", "host = 10.0.0.1\n", 1, "timeout = 0.000000025\n"),
        section("on", "host = 10.0.0.1\n", 2, "timeout = 5\n"),
        section("0x10", "host = 10.0.0.1\n", 1, "timeout = 5\n"),
        section("null", "host = 10.0.0.1\n", 3, ""),
        section("2026-01-01", "", 4, ""),
    ] {
        assert!(ini.contains(&section), "{section} not in {ini}");
    }
    let errors = ended.errors();
    assert!(
        errors
            .contains("module 1.0: `timeout: 25` has no unit; exporter_exporter reads nanoseconds")
    );
    assert!(errors.ends_with("5 modules imported"), "{errors}");
}
