//! Access to secrets (F15), passwords that cannot match (F28), and what the service's user can read
//! (F37).

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};

use scrapegate_harness::proxy::binary;

use crate::{Ended, Files, line_of, run, run_command, set_mode};

/// A configuration for plain HTTP with a password.
fn config(password: &str) -> String {
    format!(
        "[default]\naddress = 127.0.0.1\nauth = me:{password}\n[proxy]\ninsecure-plain-http = True\n"
    )
}

/// The findings for `auth`.
fn about_auth(ended: &Ended) -> Vec<&str> {
    let lines = ended.out.iter().map(String::as_str);
    lines.filter(|line| line.contains("[default] auth: ")).collect()
}

const HASH: &str = "$2y$10$zVHmKQtGGQob.b/Nc7l9NO8yLlrW05cj/ixGqSNKMHJBXwKHMqNhK";

#[test]
fn f15_a_plain_password_in_a_world_readable_file_is_an_error() {
    let files = Files::new(&config("s3cret"), "");
    for (mode, change) in [(0o644, "o-r"), (0o604, "o-r"), (0o666, "o-rw")] {
        set_mode(&files.path("config.ini"), mode);
        let place = format!("config.ini:{}: [default] auth: ", line_of(&config(""), "auth"));
        let remedy = format!("(mode {mode:04o}): chmod {change} {}", files.config());
        files.assert_mistake(&[&place, "in plain text", "can be read by everyone", &remedy]);
        assert!(!files.check().out.iter().any(|line| line.contains("s3cret")));
    }
    // Also through a symbolic link: the mode of the target counts.
    symlink("config.ini", files.path("link.ini")).expect("a link");
    let link = files.path("link.ini").display().to_string();
    assert_eq!(run(["check", "--config", &link]).code, Some(1));
    for mode in [0o600, 0o640] {
        set_mode(&files.path("config.ini"), mode);
        let ended = files.check();
        assert_eq!((ended.code, about_auth(&ended).len()), (Some(0), 0), "{:#?}", ended.out);
    }
}

#[test]
fn f15_a_world_readable_hash_is_a_warning() {
    let files = Files::new(&config(HASH), "");
    assert_eq!(about_auth(&files.check()).len(), 0);
    set_mode(&files.path("config.ini"), 0o644);
    let ended = files.check();
    let found = about_auth(&ended);
    assert_eq!((ended.code, found.len()), (Some(0), 1), "{:#?}", ended.out);
    assert!(found[0].contains("warning") && found[0].contains("chmod o-r"), "{found:?}");
}

#[test]
fn f15_a_private_key_in_the_same_file_as_the_certificates_must_not_be_world_readable() {
    let pki = scrapegate_harness::pki::Pki::new();
    let read = |name: &str| fs::read_to_string(pki.path(name)).expect("readable");
    fs::write(pki.path("ca.pem"), format!("{}{}", read("ca.pem"), read("client.key")))
        .expect("written");
    set_mode(&pki.path("ca.pem"), 0o644);
    let files = Files::new(&pki.config_ini(""), "");
    files.assert_mistake(&["client-ca: error", "ca.pem can be read by everyone"]);
}

#[test]
fn f15_a_key_in_a_world_writable_folder_is_a_warning() {
    let pki = scrapegate_harness::pki::Pki::new();
    let files = Files::new(&pki.config_ini(""), "");
    for (mode, expected) in [(0o777, 1), (0o1777, 0), (0o755, 0)] {
        set_mode(&pki.path(""), mode);
        let ended = files.check();
        let found = ended.out.iter().filter(|line| line.contains("everyone can replace"));
        assert_eq!((ended.code, found.count()), (Some(0), expected), "{:#?}", ended.out);
    }
}

#[test]
fn f15_for_a_symlinked_key_both_folders_are_checked() {
    let pki = scrapegate_harness::pki::Pki::new();
    let (links, keys) = (pki.path("links"), pki.path("keys"));
    for folder in [&links, &keys] {
        fs::create_dir(folder).expect("a folder");
    }
    fs::rename(pki.path("server.key"), keys.join("server.key")).expect("moved");
    symlink("../keys/server.key", links.join("server.key")).expect("a link");
    let config = pki.config_ini("");
    let files = Files::new(&config.replace("server.key", "links/server.key"), "");
    for (of_links, of_keys, open) in
        [(0o755, 0o755, None), (0o777, 0o755, Some(&links)), (0o755, 0o777, Some(&keys))]
    {
        set_mode(&links, of_links);
        set_mode(&keys, of_keys);
        let ended = files.check();
        let found: Vec<_> =
            ended.out.iter().filter(|line| line.contains("everyone can replace")).collect();
        assert_eq!((ended.code, found.len()), (Some(0), usize::from(open.is_some())), "{found:?}");
        let is_named = |folder: &std::path::PathBuf| {
            let folder = fs::canonicalize(folder).expect("an existing path");
            found[0].ends_with(&format!("chmod o-w {}", folder.display()))
        };
        assert!(open.is_none_or(is_named), "{found:?}");
    }
}

#[test]
fn f15_a_world_writable_secret_is_an_error() {
    let pki = scrapegate_harness::pki::Pki::new();
    let files = Files::new(&pki.config_ini(""), "");
    for (mode, access) in [
        (0o602, "server.key can be changed by everyone (mode 0602): chmod o-w "),
        (
            0o606,
            "server.key can be read by everyone and changed by everyone (mode 0606): chmod o-rw ",
        ),
    ] {
        set_mode(&pki.path("server.key"), mode);
        files.assert_mistake(&["keyfile: error: ", access]);
    }
    for (password, severity) in [("s3cret", "error"), (HASH, "warning")] {
        let files = Files::new(&config(password), "");
        set_mode(&files.path("config.ini"), 0o602);
        let ended = files.check();
        let found = about_auth(&ended);
        let remedy = format!("everyone (mode 0602): chmod o-w {}", files.config());
        assert!(found.len() == 1 && found[0].contains(severity), "{found:?}");
        assert!(found[0].ends_with(&remedy), "{found:?}");
    }
}

#[test]
fn f15_a_password_in_a_world_writable_folder_is_a_warning() {
    for password in ["s3cret", HASH] {
        let files = Files::new(&config(password), "");
        for (mode, expected) in [(0o777, 1), (0o1777, 0), (0o755, 0)] {
            set_mode(&files.path(""), mode);
            let ended = files.check();
            let found = about_auth(&ended);
            assert_eq!((ended.code, found.len()), (Some(0), expected), "{:#?}", ended.out);
            let words = ["warning: everyone can replace ", "config.ini"];
            assert!(found.iter().all(|line| words.iter().all(|it| line.contains(it))), "{found:?}");
        }
    }
}

#[test]
fn f28_a_hash_that_cannot_match_is_an_error_and_a_slow_one_a_warning() {
    let undecodable = HASH.replace("NO8", "NP8");
    for (password, words) in [
        (undecodable.as_str(), "the bcrypt hash cannot be decoded"),
        (&HASH[..HASH.len() - 1], "looks like a bcrypt hash but is not valid"),
        (&HASH.replace("$10$", "$32$"), "looks like a bcrypt hash but is not valid"),
        ("$6$salt$hash", "only bcrypt hashes are supported"),
    ] {
        let files = Files::new(&config(password), "");
        files.assert_mistake(&["[default] auth: error: ", words]);
        assert!(!files.check().out.iter().any(|line| line.contains(password)), "{password}");
    }
    for (cost, expected) in [("15", 0), ("16", 1), ("31", 1)] {
        let files = Files::new(&config(&HASH.replace("$10$", &format!("${cost}$"))), "");
        let ended = files.check();
        let found = about_auth(&ended);
        assert_eq!((ended.code, found.len()), (Some(0), expected), "{:#?}", ended.out);
        assert!(found.iter().all(|line| line.contains(&format!("cost {cost} takes longer"))));
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Runs `check --user`. Only root can switch to another user.
fn check_as(user: &str, files: &Files) -> Ended {
    run(["check", "--config", &files.config(), "--user", user])
}

#[test]
fn f37_a_file_that_the_given_user_cannot_read_is_an_error_that_names_the_obstacle() {
    if !is_root() {
        let ended = check_as("root", &Files::new(&config("x"), ""));
        assert_eq!(ended.code, Some(71), "{:#?}", ended.err);
        assert!(ended.errors().contains("run it as root"), "{:#?}", ended.err);
        return;
    }
    let files = Files::new(&scrapegate_harness::pki::Pki::new().config_ini(""), "");
    let names = ["server.pem", "server.key", "ca.pem"];
    let pki = scrapegate_harness::pki::Pki::new();
    fs::create_dir(files.path("tls")).expect("a folder");
    for name in names {
        fs::copy(pki.path(name), files.path("tls").join(name)).expect("copied");
    }
    files.write(
        "config.ini",
        "[default]\ncertfile = tls/server.pem\nkeyfile = tls/server.key\n[proxy]\nclient-ca = tls/ca.pem\n",
    );
    // Root can read everything, whatever the modes.
    assert_eq!(files.check().code, Some(0));
    let folder = files.path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    set_mode(Path::new(folder), 0o700);
    let ended = check_as("nobody", &files);
    assert_eq!(ended.code, Some(1), "{:#?}", ended.out);
    assert_eq!(ended.out[1], "user    nobody");
    let barred = format!("this user cannot enter the folder {folder}");
    assert!(ended.out.iter().any(|line| line.contains(&barred)), "{:#?}", ended.out);

    set_mode(Path::new(folder), 0o755);
    set_mode(&files.path("tls"), 0o700);
    let ended = check_as("nobody", &files);
    let barred = format!("this user cannot enter the folder {folder}/tls");
    assert_eq!(
        ended.out.iter().filter(|line| line.contains(&barred)).count(),
        3,
        "{:#?}",
        ended.out
    );

    set_mode(&files.path("tls"), 0o755);
    for (name, mode) in names.into_iter().zip([0o644, 0o600, 0o644]) {
        set_mode(&files.path("tls").join(name), mode);
    }
    let ended = check_as("nobody", &files);
    let denied = |line: &&String| line.contains("cannot be read: Permission denied");
    assert_eq!(ended.out.iter().filter(denied).count(), 1, "{:#?}", ended.out);
    assert!(ended.out.iter().any(|line| line.contains("server.key: cannot be read")));

    // The user's group may read the key.
    let key = files.path("tls").join("server.key");
    std::os::unix::fs::chown(&key, Some(0), Some(65534)).expect("chown");
    set_mode(&key, 0o640);
    let ended = check_as("nobody", &files);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.out);
}

#[test]
fn f37_an_unknown_user_is_named() {
    let ended = check_as("no-such-user", &Files::new(&config("x"), ""));
    assert_eq!(ended.code, Some(71), "{:#?}", ended.err);
    assert!(ended.errors().contains("user `no-such-user` does not exist"), "{:#?}", ended.err);
}

/// Runs `check` with its own `/etc`, which contains a service user, an additional group of that
/// user, and the service's folder.
fn check_in_own_etc(key_group: &str, arguments: &str) -> Ended {
    let binary = binary().display().to_string();
    let pki = scrapegate_harness::pki::Pki::new();
    let source = pki.path("").display().to_string();
    let script = format!(
        "mount -t tmpfs tmpfs /etc
         echo 'passwd: files' >/etc/nsswitch.conf; echo 'group: files' >>/etc/nsswitch.conf
         echo 'root:x:0:0::/:/bin/sh' >/etc/passwd
         echo 'scrapegate:x:901:901::/:/bin/sh' >>/etc/passwd
         printf 'scrapegate:x:901:\\nkeys:x:902:scrapegate\\nothers:x:903:\\n' >/etc/group
         mkdir /etc/scrapegate
         cp {source}*.pem {source}server.key /etc/scrapegate
         chmod 0644 /etc/scrapegate/*.pem
         chown 0:{key_group} /etc/scrapegate/server.key; chmod 0640 /etc/scrapegate/server.key
         printf '[default]\\ncertfile = server.pem\\nkeyfile = server.key\\n' >/etc/scrapegate/config.ini
         printf '[proxy]\\nclient-ca = ca.pem\\n' >>/etc/scrapegate/config.ini
         : >/etc/scrapegate/prometheus_exporters.ini
         cp -r /etc/scrapegate /etc/other
         ln -s scrapegate/config.ini /etc/link.ini
         cd /
         exec {binary} check {arguments}"
    );
    run_command(Path::new("unshare"), ["--mount", "sh", "-ec", &script])
}

/// Whether the test runs as real root. A user namespace maps only one user, so its root cannot
/// switch to the service's user.
fn may_change_users() -> bool {
    if !is_root() {
        #[expect(
            clippy::print_stderr,
            reason = "a reader of the log must see that the test was skipped"
        )]
        {
            eprintln!("SKIPPED: only root can check as the service's user");
        }
    }
    is_root()
}

#[test]
fn f37_root_checks_the_services_files_as_its_user_with_all_groups() {
    if !may_change_users() {
        return;
    }
    let ended = check_in_own_etc("902", "");
    assert_eq!(ended.code, Some(0), "{:#?} {:#?}", ended.out, ended.err);
    assert_eq!(ended.out[..2], ["config  /etc/scrapegate/config.ini", "user    scrapegate"]);
    let ended = check_in_own_etc("903", "");
    assert_eq!(ended.code, Some(1), "{:#?}", ended.out);
    let denied = |line: &String| line.contains("server.key: cannot be read: Permission denied");
    assert!(ended.out.iter().any(denied), "{:#?}", ended.out);
    let ended = check_in_own_etc("903", "--user root");
    assert_eq!(ended.code, Some(0), "{:#?}", ended.out);
}

#[test]
fn f37_the_services_folder_is_recognized_in_every_spelling_of_its_path() {
    if !may_change_users() {
        return;
    }
    for (config, user) in [
        ("/etc/scrapegate/config.ini", "scrapegate"),
        ("/etc/../etc/scrapegate/config.ini", "scrapegate"),
        ("etc/scrapegate/config.ini", "scrapegate"),
        ("/etc/link.ini", "scrapegate"),
        ("/etc/other/config.ini", "root"),
        ("/etc/scrapegate/../other/config.ini", "root"),
    ] {
        let ended = check_in_own_etc("902", &format!("--config {config}"));
        assert_eq!(
            ended.out.get(1),
            Some(&format!("user    {user}")),
            "{config}: {:#?}",
            ended.out
        );
    }
}
