//! Changed files are read again without a request, every `reload-interval`.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use scrapegate_harness::{
    client::Client,
    exporter::Exporter,
    forge,
    pki::{BOTH_VERSIONS, Pki, write_private},
    proxy::Proxy,
};

use super::{
    DONE, EXPORTERS, REFUSED, assert_status, connect, exporter, reload, replace, wait_for, write,
};
const SOON: &str = "reload-interval = 0.05\n";

/// Ten times `reload-interval`. There is no event for "nothing happens": a change that was not
/// noticed in this time will not be noticed.
const SEVERAL_LOOKS: Duration = Duration::from_millis(500);

/// The number of records with this message.
fn count(proxy: &Proxy, message: &str) -> usize {
    let message = format!("\"message\":\"{message}\"");
    proxy.log_lines().iter().filter(|line| line.contains(&message)).count()
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(path).expect("the file");
    file.write_all(text.as_bytes()).expect("written");
}

#[test]
fn every_file_that_is_read_is_watched() {
    let (pki, upstream) = (Pki::new(), Pki::new());
    let list = forge::revocation_list(pki.ca(), &[], -1..100);
    fs::write(pki.path("list.pem"), list).expect("written");
    for secret in ["token", "password"] {
        write_private(&pki.path(secret), "secret\n");
    }
    let at = |pki: &Pki, file: &str| pki.path(file).display().to_string();
    let exporters = format!(
        "[bearer]\nenabled = True\nport = 1\npath = /\nbearer-token-file = {}\n\
         [basic]\nenabled = True\nport = 1\npath = /\nusername = u\npassword-file = {}\n\
         [tls]\nenabled = True\nmethod = https\nport = 1\npath = /\n\
         ca-file = {}\ncert-file = {}\nkey-file = {}\n",
        at(&pki, "token"),
        at(&pki, "password"),
        at(&upstream, "ca.pem"),
        at(&upstream, "client.pem"),
        at(&upstream, "client.key"),
    );
    let config = pki.config_ini(&format!("{SOON}client-crl = {}\n", at(&pki, "list.pem")));
    let proxy = Proxy::start(&config, &exporters);
    let files = [
        proxy.folder().join("config.ini"),
        proxy.folder().join(EXPORTERS),
        pki.path("server.pem"),
        pki.path("server.key"),
        pki.path("ca.pem"),
        pki.path("list.pem"),
        pki.path("token"),
        pki.path("password"),
        upstream.path("ca.pem"),
        upstream.path("client.pem"),
        upstream.path("client.key"),
    ];
    for (before, file) in files.iter().enumerate() {
        // The appended text changes the meaning of none of the files.
        append(file, "\n");
        wait_for(&proxy, DONE, before + 1);
    }
    assert_eq!(count(&proxy, DONE), files.len());
}

#[test]
fn a_new_token_is_used_once_its_file_contains_it() {
    let pki = Pki::new();
    write_private(&pki.path("token"), "old\n");
    let one = exporter(100);
    let section =
        one.section("e") + &format!("bearer-token-file = {}\n", pki.path("token").display());
    let proxy = Proxy::start(&pki.config_ini(SOON), &section);
    let mut client = connect(&pki, &proxy);
    assert_status(&mut client, "e", 200);
    fs::write(pki.path("token"), "new\n").expect("written");
    wait_for(&proxy, DONE, 1);
    assert_status(&mut client, "e", 200);
    let sent = one.requests();
    for (request, token) in sent.iter().zip(["old", "new"]) {
        assert!(request.contains(&format!("Bearer {token}\r\n")), "{request}");
    }
    assert_eq!(sent.len(), 2);
}

#[test]
fn a_touched_file_causes_no_reload_and_a_refused_one_is_not_tried_again() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(SOON), &one.section("e"));
    let mut client = connect(&pki, &proxy);
    let exporters = proxy.folder().join(EXPORTERS);
    replace(&exporters, &one.section("e"));
    thread::sleep(SEVERAL_LOOKS);
    assert_eq!(count(&proxy, DONE), 0, "{:#?}", proxy.log_lines());

    replace(&exporters, "[broken\n");
    wait_for(&proxy, REFUSED, 1);
    let said = proxy.log_lines().len();
    thread::sleep(SEVERAL_LOOKS);
    assert_eq!(proxy.log_lines().len(), said, "{:#?}", proxy.log_lines());
    assert_status(&mut client, "e", 200);
    replace(&exporters, "[broken too\n");
    wait_for(&proxy, REFUSED, 2);
    assert_status(&mut client, "e", 200);
    // The state in use is a valid state to return to, like any other.
    replace(&exporters, &one.section("e"));
    wait_for(&proxy, DONE, 1);
    assert_status(&mut client, "e", 200);
}

#[test]
fn a_partially_written_file_is_read_when_it_is_complete() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(SOON), &one.section("before"));
    let mut client = connect(&pki, &proxy);
    let whole = one.section("after");
    let half = &whole[..whole.find("path = ").expect("a path")];
    replace(&proxy.folder().join(EXPORTERS), half);
    wait_for(&proxy, REFUSED, 1);
    assert_status(&mut client, "before", 200);
    append(&proxy.folder().join(EXPORTERS), &whole[half.len()..]);
    wait_for(&proxy, DONE, 1);
    assert_status(&mut client, "after", 200);
    assert_status(&mut client, "before", 404);
}

#[test]
fn a_missing_file_and_a_world_readable_secret_are_noticed_again_when_fixed() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini(SOON), &one.section("e"));
    let (key, away) = (pki.path("server.key"), pki.path("away"));
    fs::rename(&key, &away).expect("renamed");
    wait_for(&proxy, REFUSED, 1);
    fs::rename(&away, &key).expect("renamed");
    wait_for(&proxy, DONE, 1);

    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(&key, mode).expect("a new mode");
    };
    mode(0o644);
    wait_for(&proxy, REFUSED, 2);
    mode(0o600);
    wait_for(&proxy, DONE, 2);
    assert_status(&mut connect(&pki, &proxy), "e", 200);
}

/// Puts files into `volume` as Kubernetes does: links to `..data/NAME`, where `..data` is a link to
/// the folder with the files.
fn mount(volume: &Path, pki: &Pki, version: &str) {
    const FILES: [&str; 3] = ["server.pem", "server.key", "ca.pem"];
    let folder = volume.join(version);
    fs::create_dir_all(&folder).expect("a folder");
    for file in FILES {
        let text = fs::read_to_string(pki.path(file)).expect("readable");
        write_private(&folder.join(file), &text);
        let link = volume.join(file);
        if !link.exists() {
            symlink(Path::new("..data").join(file), link).expect("a link");
        }
    }
    symlink(version, volume.join("..next")).expect("a link");
    fs::rename(volume.join("..next"), volume.join("..data")).expect("renamed");
}

#[test]
fn a_folder_that_is_replaced_through_a_symlink_is_followed() {
    let (old, new) = (Pki::new(), Pki::new());
    let volume = tempfile::tempdir().expect("a temporary folder");
    mount(volume.path(), &old, "..1");
    let one = exporter(100);
    let here = |path: PathBuf| path.parent().expect("a folder").display().to_string();
    let config = old.config_ini(SOON);
    let config = config.replace(&here(old.path("x")), &volume.path().display().to_string());
    let proxy = Proxy::start(&config, &one.section("e"));
    assert_status(&mut connect(&old, &proxy), "e", 200);
    mount(volume.path(), &new, "..2");
    wait_for(&proxy, DONE, 1);
    assert_status(&mut connect(&new, &proxy), "e", 200);
    assert!(Client::connect(proxy.address(), old.client(BOTH_VERSIONS)).is_err());
}

#[test]
fn the_interval_changes_with_a_reload() {
    let pki = Pki::new();
    let one = exporter(100);
    let proxy = Proxy::start(&pki.config_ini("reload-interval = 3600\n"), &one.section("before"));
    write(&proxy, "config.ini", &pki.config_ini(SOON));
    reload(&proxy, DONE, 1);
    replace(&proxy.folder().join(EXPORTERS), &one.section("after"));
    wait_for(&proxy, DONE, 2);
    assert_status(&mut connect(&pki, &proxy), "after", 200);
}

#[test]
fn an_https_exporter_is_verified_against_the_present_ca_file() {
    let (pki, other) = (Pki::new(), Pki::new());
    let ca = pki.path("exporters-ca.pem");
    fs::copy(pki.path("ca.pem"), &ca).expect("copied");
    let one = Exporter::start_tls(&other, |conversation| {
        conversation.read_request()?;
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
    });
    let section = one.section("e");
    let section =
        section.replace(&other.path("ca.pem").display().to_string(), &ca.display().to_string());
    let proxy = Proxy::start(&pki.config_ini(SOON), &section);
    let mut client = connect(&pki, &proxy);
    assert_status(&mut client, "e", 502);
    let text = fs::read_to_string(other.path("ca.pem")).expect("readable");
    replace(&ca, &text);
    wait_for(&proxy, DONE, 1);
    assert_status(&mut client, "e", 200);
}
