//! The search for `config.ini` without `--config`. The folders are fixed system paths, so each test
//! has its own `/etc` in a mount namespace.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use scrapegate_harness::proxy::{Proxy, binary};

use crate::{Ended, Files, PLAIN_HTTP, run_command};

const OWN: &str = "/etc/scrapegate";
const AGENTS: &str = "/etc/openitcockpit-agent";

/// Runs a command with an `/etc` that contains only these folders, each with a copy of `files`.
#[track_caller]
fn run_with(folders: &[&str], files: &Files, command: &str) -> Ended {
    let binary = binary().display().to_string();
    let source = files.path("").display().to_string();
    let mut script = "mount -t tmpfs tmpfs /etc\n".to_owned();
    for folder in folders {
        script += &format!("mkdir {folder} && cp {source}*.ini {folder}\n");
    }
    script += &format!("exec {binary} {command}");
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let user = if is_root { "--keep-caps" } else { "--map-root-user" };
    run_command(Path::new("unshare"), [user, "--mount", "sh", "-ec", &script])
}

#[test]
fn without_config_scrapegates_folder_is_preferred_to_the_agents() {
    let files = Files::new(PLAIN_HTTP, "");
    let check = "check --listen 127.0.0.1:3333";
    for (folders, used) in [(&[AGENTS, OWN][..], OWN), (&[AGENTS], AGENTS), (&[OWN], OWN)] {
        let ended = run_with(folders, &files, check);
        assert_eq!(ended.code, Some(0), "{:#?}", ended.out);
        assert_eq!(ended.out.first(), Some(&format!("config  {used}/config.ini")));
        assert!(ended.out.contains(&"listen  127.0.0.1:3333".to_owned()), "{:#?}", ended.out);
    }
}

#[test]
fn a_mistake_in_scrapegates_folder_does_not_cause_a_fallback_to_the_agents() {
    let files = Files::new("[default]\nport = none\n", "");
    for command in ["check", "run", "sd"] {
        let ended = run_with(&[AGENTS, OWN], &files, command);
        assert_ne!(ended.code, Some(0), "{command}");
        let said = [ended.out.join("\n"), ended.errors()].concat();
        assert!(said.contains(OWN) && !said.contains(AGENTS), "{command}: {said}");
    }
}

#[test]
fn if_no_config_exists_both_paths_are_named() {
    let files = Files::new(PLAIN_HTTP, "");
    for command in ["check", "run", "sd", "probe e"] {
        let ended = run_with(&[], &files, command);
        assert_ne!(ended.code, Some(0), "{command}");
        let said = [ended.out.join("\n"), ended.errors()].concat();
        for words in [&format!("{OWN}/config.ini"), &format!("{AGENTS}/config.ini"), "--config"] {
            assert!(said.contains(words), "{command}: no {words} in {said}");
        }
    }
}

#[test]
fn run_logs_which_config_it_uses() {
    let proxy = Proxy::start(PLAIN_HTTP, "");
    let record =
        proxy.wait_for_log("listening", |record| record["fields"]["message"] == "listening");
    let used = proxy.folder().join("config.ini").display().to_string();
    assert_eq!(record["fields"]["config"], used.as_str(), "{record}");
}
