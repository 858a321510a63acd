//! If a command cannot write its output, it reports the error and exits with the documented code.

use std::{
    fs::File,
    io::Read as _,
    process::{Command, Stdio},
};

use scrapegate_harness::{
    exporter::Exporter,
    pki::Pki,
    proxy::{Proxy, binary},
};

use crate::{Files, Killed};

/// The exit code and the lines on standard error, when each write to standard output fails.
#[track_caller]
fn run_on_a_full_disk(arguments: &[&str]) -> (Option<i32>, String) {
    let full = File::options().write(true).open("/dev/full").expect("`/dev/full` exists on Linux");
    let child = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut child = Killed(child);
    let mut said = String::new();
    let mut errors = child.0.stderr.take().expect("piped");
    errors.read_to_string(&mut said).expect("UTF-8");
    (child.0.wait().expect("the child is ours").code(), said)
}

#[test]
fn a_command_that_cannot_print_exits_with_71_and_get_and_probe_with_their_own_codes() {
    let pki = Pki::new();
    let exporter = Exporter::start(crate::probe::answering(crate::probe::TEXT, "up 1\n"));
    let proxy = Proxy::start(&pki.config_ini(""), &exporter.section("e"));
    let files = Files::new(&pki.config_ini("advertise = h\n"), &exporter.section("e"));
    files.write("expexp.yaml", "modules: {a: {method: http, http: {port: 1}}}\n");
    let path = |name: &str| files.path(name).display().to_string();
    let [certificate, key, ca] =
        ["client.pem", "client.key", "ca.pem"].map(|name| pki.path(name).display().to_string());
    let url = format!("https://{}", proxy.address());
    let config = files.config();
    let broken = Files::new("", "[e]\n");
    for (arguments, code) in [
        (&["man"][..], 71),
        (&["completions", "bash"], 71),
        (&["check", "--config", &config], 71),
        (&["check", "--config", &broken.config()], 71),
        (&["sd", "--config", &config], 71),
        (&["sd", "--config", &config, "--format", "openitcockpit"], 71),
        (&["import", &path("expexp.yaml")], 71),
        (&["certs", "--out", &path("tls"), "--host", "h"], 71),
        (&["demo", "--listen", "127.0.0.1:0", "--series", "10"], 71),
        (&["probe", "e", "--exporters", &path("prometheus_exporters.ini")], 3),
        (&["get", "e", "--url", &url, "--cert", &certificate, "--key", &key, "--cacert", &ca], 1),
    ] {
        let (ended, said) = run_on_a_full_disk(arguments);
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert!(said.contains("No space left on device"), "{arguments:?}: {said}");
        assert!(said.contains("cannot write"), "{arguments:?}: {said}");
    }
}
