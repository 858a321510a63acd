//! The Debian package, as far as it can be looked at without one: the script that keeps it off the
//! agent's port, the drop-in, and what lintian is told. `.ci/run` builds it, has lintian read it,
//! installs it (`packaging/test-deb`) and boots it (`packaging/test-boot`).

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(packaging(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A host as `check-port` sees it: two files, and whether the agent runs.
struct Host(TempDir);

impl Host {
    /// `own` and `agent` are the files' contents; an absent one is `None`.
    fn new(own: &str, agent: Option<&str>, agent_runs: bool) -> Self {
        let host = Self(tempfile::tempdir().expect("a temporary folder"));
        host.write("own.ini", own);
        if let Some(agent) = agent {
            host.write("agent.ini", agent);
        }
        let code = if agent_runs { 0 } else { 3 };
        host.write("systemctl", &format!("#!/bin/sh\nexit {code}\n"));
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(host.0.path().join("systemctl"), executable).expect("set");
        let script = read("debian/check-port")
            .replace("/etc/scrapegate/config.ini", &host.path("own.ini"))
            .replace("/etc/openitcockpit-agent/config.ini", &host.path("agent.ini"));
        host.write("check-port", &script);
        host
    }

    fn path(&self, file: &str) -> String {
        self.0.path().join(file).display().to_string()
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("written");
    }

    /// What it says if the port belongs to something else.
    #[track_caller]
    fn conflict(&self, when: &str) -> Option<String> {
        let path = std::env::var("PATH").expect("a path");
        let output = Command::new("sh")
            .args([&self.path("check-port"), when])
            .env("PATH", format!("{}:{path}", self.0.path().display()))
            .output()
            .expect("sh runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.stderr.is_empty(), "{output:?}");
        match output.status.code() {
            Some(0) => {
                assert_eq!(said, "");
                None
            }
            Some(1) => Some(said),
            _ => panic!("{:?}: {said}", output.status),
        }
    }
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address").port()
}

fn with_port(port: u16) -> String {
    format!("[default]\nport = {port}\n")
}

#[test]
fn f33_a_port_that_the_agent_has_is_left_to_it() {
    let port = free_port();
    let own = with_port(port);
    // As the agent's file may be written: other case, other sections with a port, no blanks, CRLF.
    for agent in [
        own.clone(),
        format!(
            "# port = 1\n[ Default ]\r\naddress = 0.0.0.0\r\nPORT={port}\r\n[oitc]\r\nport = 2\r\n"
        ),
    ] {
        let runs = Host::new(&own, Some(&agent), true);
        let words = format!("port {port} is that of the openITCOCKPIT agent");
        assert!(runs.conflict("install").is_some_and(|it| it.starts_with(&words)), "{agent}");
        assert!(runs.conflict("start").is_some_and(|it| it.contains(&words)), "{agent}");
        // A stopped agent is no reason not to start; a new installation still waits for a decision.
        let stopped = Host::new(&own, Some(&agent), false);
        assert!(stopped.conflict("install").is_some(), "{agent}");
        assert_eq!(stopped.conflict("start"), None, "{agent}");
    }
}

#[test]
fn f33_the_default_of_both_programs_is_the_same_port() {
    let neither = Host::new("[default]\naddress = ::\n", Some("[default]\n"), true);
    assert!(neither.conflict("start").is_some_and(|it| it.contains("port 3333 ")));
    assert!(read("debian/config.ini").contains("\nport = 3333\n"));
}

#[test]
fn f33_a_port_that_nobody_else_has_is_used() {
    let port = free_port();
    for agent in [None, Some(with_port(port - 1))] {
        let host = Host::new(&with_port(port), agent.as_deref(), true);
        assert_eq!((host.conflict("install"), host.conflict("start")), (None, None), "{agent:?}");
    }
}

#[test]
fn f33_a_port_that_another_program_listens_on_stops_a_new_installation_only() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let host = Host::new(&with_port(port), None, false);
        let said = host.conflict("install").expect("a conflict");
        assert_eq!(said, format!("another program listens on port {port}\n"));
        // Before a start it may be the own socket, which systemd holds.
        assert_eq!(host.conflict("start"), None);
    }
}

/// The message has the lines of the files that the package brings.
#[test]
fn f33_the_two_lines_to_change_are_there() {
    let postinst = read("debian/postinst");
    for (file, before, after) in [
        ("config.ini", "port = 3333", "port = 3334"),
        ("prometheus_exporters.ini", "enabled = False", "enabled = True"),
    ] {
        let own = read(&format!("debian/{file}"));
        assert_eq!(own.lines().filter(|line| *line == before).count(), 1, "{file}");
        let is_told = |line: &str| line.contains(&format!("/{file} ")) && line.ends_with(after);
        assert!(postinst.lines().any(is_told), "{file}: {postinst}");
    }
    for script in ["postinst", "postrm", "check-port"] {
        let checked = Command::new("sh").arg("-n").arg(packaging("debian").join(script)).output();
        let checked = checked.expect("sh runs");
        assert!(checked.status.success(), "{script}: {checked:?}");
    }
}

/// In the user namespace of the unit, the capability would be good for files of root's own group only.
#[test]
fn f33_the_drop_in_undoes_what_keeps_the_agents_files_from_being_read() {
    let unit = read("systemd/scrapegate.service");
    let drop_in = read("examples/openitcockpit-agent.conf");
    let has = |text: &str, line: &str| text.lines().any(|it| it == line);
    assert!(has(&unit, "PrivateUsers=yes") && has(&drop_in, "PrivateUsers=no"));
    assert!(has(&unit, "CapabilityBoundingSet="));
    for set in ["CapabilityBoundingSet", "AmbientCapabilities"] {
        assert!(has(&drop_in, &format!("{set}=CAP_DAC_READ_SEARCH")), "{set}");
    }
    assert!(has(&drop_in, "ExecStart=") && has(&drop_in, "ExecCondition="));
}

#[test]
fn f34_the_symbols_are_in_a_package_of_their_own() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("UTF-8");
    assert!(manifest.contains("\ndbgsym = true\n"), "cargo-deb leaves them in the program");
    assert!(manifest.contains("\ndebug = \"line-tables-only\"\n"), "there are no symbols");
}

#[test]
fn f34_every_lintian_override_has_its_reason() {
    let overrides = read("debian/lintian-overrides");
    let (mut tags, mut reasons, mut is_comment) = (BTreeSet::new(), 0, false);
    for line in overrides.lines() {
        if let Some(tag) = line.strip_prefix("scrapegate: ") {
            tags.insert(tag.split(' ').next());
            reasons += u32::from(is_comment);
            is_comment = false;
        } else {
            assert!(line.starts_with("# "), "{line:?}");
            is_comment = true;
        }
    }
    // Those of one tag are in a row, below one comment.
    assert_eq!(u32::try_from(tags.len()), Ok(reasons), "{overrides}");
    assert!(reasons > 0);
}

#[test]
fn f34_the_changelog_of_the_package_is_of_this_version() {
    let expected = format!("scrapegate ({}-1) ", env!("CARGO_PKG_VERSION"));
    let changelog = read("debian/changelog");
    assert!(changelog.starts_with(&expected), "{changelog}");
}
