//! The parts of the Debian package that can be tested without building it: the script that keeps
//! scrapegate off the agent's port, the drop-in, and the lintian overrides. `.ci/run` builds the
//! package, runs lintian, installs the package (`packaging/test-deb`) and boots it
//! (`packaging/test-boot`).

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, symlink},
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

/// A host as `check-port` sees it: both `config.ini` files, the kernel's socket tables, and the
/// agent's unit.
struct Host(TempDir);

/// The state of the agent's unit according to `systemctl`.
#[derive(Clone, Copy, Debug)]
struct Agent {
    is_enabled: bool,
    state: &'static str,
}

impl Agent {
    const RUNS: Self = Self { is_enabled: true, state: "active" };
    const DISABLED: Self = Self { is_enabled: false, state: "inactive" };
}

const OWN: &str = "etc/scrapegate/config.ini";
const AGENTS: &str = "etc/openitcockpit-agent/config.ini";

impl Host {
    /// `own` and `agent` are the contents of the files. `None` means that the file is missing.
    fn new(own: &str, agent: Option<&str>, unit: Agent) -> Self {
        let host = Self(tempfile::tempdir().expect("a temporary folder"));
        host.write(OWN, own);
        if let Some(agent) = agent {
            host.write(AGENTS, agent);
        }
        let Agent { is_enabled, state } = unit;
        let (enabled, active) = (u8::from(!is_enabled), if state == "active" { 0 } else { 3 });
        let systemctl = format!(
            "#!/bin/sh\ncase $1 in\nis-enabled) exit {enabled} ;;\nis-active) echo {state}; exit {active} ;;\nesac\n"
        );
        host.write("bin/systemctl", &systemctl);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(host.path("bin/systemctl"), executable).expect("set");
        symlink("/proc", host.path("proc")).expect("a link");
        host
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// Replaces the kernel's socket tables by one for IPv4 only.
    fn switch_ipv6_off(&self) {
        fs::remove_file(self.path("proc")).expect("removed");
        self.write("proc/net/tcp", &fs::read_to_string("/proc/net/tcp").expect("readable"));
    }

    /// The message of `check-port` if another program uses the port.
    #[track_caller]
    fn conflict(&self, when: &str) -> Option<String> {
        let path = std::env::var("PATH").expect("a path");
        let output = Command::new("sh")
            .arg(packaging("debian/check-port"))
            .arg(when)
            .arg(self.0.path())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
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

/// A port without a listener.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address").port()
}

fn with_port(port: u16) -> String {
    format!("[default]\nport = {port}\n")
}

#[test]
fn f33_scrapegate_does_not_take_the_agents_port() {
    let port = free_port();
    let own = with_port(port);
    // Variants of the agent's file: other case, other sections with a port, no blanks, CRLF.
    for agent in [
        own.clone(),
        format!(
            "# port = 1\n[ Default ]\r\naddress = 0.0.0.0\r\nPORT={port}\r\n[oitc]\r\nport = 2\r\n"
        ),
    ] {
        let runs = Host::new(&own, Some(&agent), Agent::RUNS);
        let words = format!("the openITCOCKPIT agent uses port {port} (");
        assert!(runs.conflict("install").is_some_and(|it| it.starts_with(&words)), "{agent}");
        assert!(runs.conflict("start").is_some_and(|it| it.contains(&words)), "{agent}");
        // A disabled agent does not prevent a start. A new installation still needs a decision by
        // the administrator.
        let disabled = Host::new(&own, Some(&agent), Agent::DISABLED);
        assert!(disabled.conflict("install").is_some(), "{agent}");
        assert_eq!(disabled.conflict("start"), None, "{agent}");
    }
}

#[test]
fn f33_an_agent_that_is_enabled_or_about_to_start_keeps_its_port() {
    let own = with_port(free_port());
    for (is_enabled, state, reason) in [
        // Stopped for an upgrade, or not started until the next boot.
        (true, "inactive", Some("is enabled")),
        (true, "failed", Some("is enabled")),
        // The state that systemd reports while a unit waits for its restart.
        (false, "activating", Some("is activating")),
        (false, "active", Some("is active")),
        (false, "reloading", Some("is reloading")),
        (false, "deactivating", Some("is deactivating")),
        (false, "inactive", None),
        (false, "failed", None),
        (false, "unknown", None),
    ] {
        let unit = Agent { is_enabled, state };
        let said = Host::new(&own, Some(&own), unit).conflict("start");
        assert_eq!(said.is_some(), reason.is_some(), "{unit:?}: {said:?}");
        if let (Some(said), Some(reason)) = (said, reason) {
            assert!(said.contains(reason), "{unit:?}: {said}");
            assert!(said.contains("systemctl disable --now openitcockpit-agent"), "{said}");
        }
    }
}

#[test]
fn f33_the_port_is_found_in_every_spelling_of_its_line() {
    for (own, port) in [
        ("[default]\nport = 4000 # was 3334\n", 4000),
        ("[default]\nport: 4000\n", 4000),
        ("\u{feff}[default]\nport = 4000\n", 4000),
        ("[default] ; x\nport = 4000\n", 4000),
        ("[default]\nport = 04000\n", 4000),
        ("[default]\n  Port\t=\t\"4000\"\r\n", 4000),
        ("[default]\nimport = 4000\nports = 4000\n", 3333),
        ("[other]\nport = 4000\n", 3333),
    ] {
        for other in [4000, 3333] {
            let host = Host::new(own, Some(&with_port(other)), Agent::RUNS);
            assert_eq!(host.conflict("start").is_some(), other == port, "{own:?}, {other}");
        }
    }
}

#[test]
fn f33_both_programs_have_the_same_default_port() {
    let neither = Host::new("[default]\naddress = ::\n", Some("[default]\n"), Agent::RUNS);
    assert!(neither.conflict("start").is_some_and(|it| it.contains("port 3333 (")));
    assert!(read("debian/config.ini").contains("\nport = 3333\n"));
}

#[test]
fn f33_a_free_port_is_used() {
    let port = free_port();
    for agent in [None, Some(with_port(port - 1))] {
        let host = Host::new(&with_port(port), agent.as_deref(), Agent::RUNS);
        assert_eq!((host.conflict("install"), host.conflict("start")), (None, None), "{agent:?}");
    }
}

#[test]
fn f33_another_programs_listener_stops_only_a_new_installation() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let host = Host::new(&with_port(port), None, Agent::DISABLED);
        let said = host.conflict("install").expect("a conflict");
        assert_eq!(said, format!("another program listens on port {port}\n"));
        // Before a start, the listener may be our own socket, which systemd keeps open.
        assert_eq!(host.conflict("start"), None);
    }
}

#[test]
fn f33_a_listener_is_found_on_a_host_without_ipv6() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let host = Host::new(&with_port(port), None, Agent::DISABLED);
    host.switch_ipv6_off();
    let said = host.conflict("install").expect("a conflict");
    assert_eq!(said, format!("another program listens on port {port}\n"));
}

/// The message quotes lines that the files of the package contain.
#[test]
fn f33_the_message_names_lines_that_the_files_have() {
    let postinst = read("debian/postinst");
    for (file, before, after) in [
        ("config.ini", "port = 3333", "port = 3334"),
        ("prometheus_exporters.ini", "enabled = False", "enabled = True"),
    ] {
        let own = read(&format!("debian/{file}"));
        assert_eq!(own.lines().filter(|line| *line == before).count(), 1, "{file}");
        let names_the_line =
            |line: &str| line.contains(&format!("/{file} ")) && line.ends_with(after);
        assert!(postinst.lines().any(names_the_line), "{file}: {postinst}");
    }
    for script in ["postinst", "postrm", "check-port"] {
        let checked = Command::new("sh").arg("-n").arg(packaging("debian").join(script)).output();
        let checked = checked.expect("sh runs");
        assert!(checked.status.success(), "{script}: {checked:?}");
    }
}

/// With `PrivateUsers=yes` the capability works only for files whose owner and group exist in the
/// unit's user namespace.
#[test]
fn f33_the_drop_in_lets_the_service_read_the_agents_files() {
    let unit = read("systemd/scrapegate.service");
    let drop_in = read("examples/openitcockpit-agent.conf");
    let has = |text: &str, line: &str| text.lines().any(|it| it == line);
    assert!(has(&unit, "PrivateUsers=yes") && has(&drop_in, "PrivateUsers=no"));
    assert!(has(&unit, "CapabilityBoundingSet="));
    for set in ["CapabilityBoundingSet", "AmbientCapabilities"] {
        assert!(has(&drop_in, &format!("{set}=CAP_DAC_READ_SEARCH")), "{set}");
    }
    assert!(has(&drop_in, "ExecStart=") && has(&drop_in, "ExecCondition="));
    // The drop-in in the guide can be pasted. It has the same lines, except for the program's path.
    let page = fs::read_to_string(packaging("../docs/guide/openitcockpit.md")).expect("UTF-8");
    let is_drop_in = |block: &&str| block.contains("ExecCondition=\n");
    let block = page.split("```").find(is_drop_in).expect("the drop-in");
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains(['=', '[']));
        lines.map(|line| line.replace("/usr/local/bin/scrapegate", "scrapegate")).collect()
    };
    assert_eq!(lines(block), lines(&drop_in));
    assert_eq!(lines(block)[0], "[Service]");
}

/// `packaging/test-deb` looks at the installed package.
#[test]
fn the_package_has_the_pages_for_operators_and_the_manual_pages() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("UTF-8");
    let pages: BTreeSet<&str> = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("[\"docs/")?.split_once("/*.md\""))
        .map(|(folder, _)| folder)
        .collect();
    let folders = fs::read_dir(root.join("docs")).expect("a folder").filter_map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_name()?.to_str()?.to_owned();
        (path.is_dir() && !["development", "images"].contains(&name.as_str())).then_some(name)
    });
    assert_eq!(pages.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), folders.collect());
    for (page, section) in [("scrapegate.1", 1), ("scrapegate.ini.5", 5)] {
        let asset =
            format!("[\"target/package/{page}\", \"usr/share/man/man{section}/\", \"644\"]");
        assert!(manifest.contains(&asset), "{asset}");
    }
    let alias = "[\"target/package/prometheus_exporters.ini.5\", \"usr/share/man/man5/\", \"644\"]";
    assert!(manifest.contains(alias), "{alias}");
}

#[test]
fn f34_debug_symbols_are_in_a_separate_package() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("UTF-8");
    assert!(manifest.contains("\ndbgsym = true\n"), "the debug symbols stay in the program");
    assert!(manifest.contains("\ndebug = \"line-tables-only\"\n"), "no debug symbols");
}

#[test]
fn f34_every_lintian_override_has_a_reason() {
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
    // The overrides of one tag follow each other, below one comment.
    assert_eq!(u32::try_from(tags.len()), Ok(reasons), "{overrides}");
    assert!(reasons > 0);
}

#[test]
fn f34_the_package_changelog_is_for_this_version() {
    let expected = format!("scrapegate ({}-1) ", env!("CARGO_PKG_VERSION"));
    let changelog = read("debian/changelog");
    assert!(changelog.starts_with(&expected), "{changelog}");
}
