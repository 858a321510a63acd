//! Which files can be read as configuration (C01). `tests/process/files.rs` tests the files that
//! the configuration names.

use std::{fs, path::Path, time::Instant};

use scrapegate::config::{self, Advertised, Sources};

use crate::{GOOD_CONFIG, GOOD_EXPORTERS, bad, good, load, load_files, rendered};

/// Asserts the one diagnostic for a `config.ini` that `prepare` creates.
#[cfg(unix)]
#[track_caller]
fn unreadable(prepare: impl FnOnce(&Path), expected: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config.ini");
    prepare(&file);
    let start = Instant::now();
    let (config, diagnostics) = load_files(&file, None);
    assert!(config.is_none());
    assert_eq!(rendered(&diagnostics), format!("config.ini: error: {expected}\n"));
    // The diagnostic also contains the full path.
    assert!(diagnostics.to_string().starts_with(&file.display().to_string()));
    assert!(start.elapsed().as_secs() < 5);
}

#[cfg(unix)]
mod not_a_regular_file {
    use std::{os::unix::fs::symlink, os::unix::net::UnixListener, process::Command};

    use super::*;

    #[test]
    fn a_missing_file_is_an_error() {
        unreadable(|_| (), "the file does not exist");
    }

    #[test]
    fn a_directory_is_an_error() {
        unreadable(
            |file| fs::create_dir(file).expect("the directory is made"),
            "a directory, not a file",
        );
    }

    #[test]
    fn a_fifo_does_not_hang() {
        let mkfifo = |file: &Path| {
            let status = Command::new("mkfifo").arg(file).status();
            assert!(status.expect("mkfifo runs").success());
        };
        unreadable(mkfifo, "a FIFO, not a file");
    }

    #[test]
    fn an_endless_device_is_an_error() {
        unreadable(
            |file| symlink("/dev/zero", file).expect("the link is made"),
            "a device, not a file",
        );
    }

    #[test]
    fn a_socket_is_an_error() {
        unreadable(
            |file| drop(UnixListener::bind(file).expect("the socket is made")),
            "a socket, not a file",
        );
    }

    #[test]
    fn a_dangling_symlink_is_an_error() {
        unreadable(
            |file| symlink("nowhere", file).expect("the link is made"),
            "a broken symbolic link: its target does not exist",
        );
    }

    #[test]
    fn a_symlink_loop_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.ini");
        symlink("config.ini", &file).expect("the link is made");
        let (config, diagnostics) = load_files(&file, None);
        assert!(config.is_none());
        let text = rendered(&diagnostics);
        assert!(text.starts_with("config.ini: error: cannot be read: "), "{text}");
    }

    #[test]
    fn an_inaccessible_file_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("no-folder"), "").expect("the file is written");
        let file = folder.path().join("no-folder/config.ini");
        let (config, diagnostics) = load_files(&file, None);
        assert!(config.is_none());
        let start = format!("{}: error: cannot be read: ", file.display());
        assert!(diagnostics.to_string().starts_with(&start), "{diagnostics}");
    }

    #[test]
    fn a_symlinked_config_is_read_and_relative_paths_resolve_from_the_link() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("real")).expect("the directory is made");
        fs::write(path("real/config.ini"), GOOD_CONFIG).expect("config.ini is written");
        fs::write(path("exporters.ini"), GOOD_EXPORTERS).expect("exporters.ini is written");
        symlink("real/config.ini", path("config.ini")).expect("the link is made");
        let (config, diagnostics) = load_files(&path("config.ini"), None);
        assert!(config.is_some(), "{diagnostics}");
    }
}

/// C01.
#[test]
fn a_file_may_have_one_mebibyte_and_not_a_byte_more() {
    let mut text = GOOD_CONFIG.to_owned();
    text += &"#".repeat(1024 * 1024 - text.len());
    good(&text, GOOD_EXPORTERS);
    text.push('#');
    let too_large = "config.ini: error: larger than the limit of 1048576 bytes\n";
    bad(&text, GOOD_EXPORTERS, too_large);
}

/// C04.
#[test]
fn invalid_utf_8_is_reported_with_its_byte_offset() {
    let expected = "exporters.ini:2: error: not valid UTF-8: invalid byte at offset 5\n";
    bad(GOOD_CONFIG, b"[n]\n#\xff\n", expected);
}

#[test]
fn f10_utf_16_is_reported_with_the_remedy() {
    let utf16 = "exporters.ini: error: the file is UTF-16 text; save it as UTF-8\n";
    for text in [&b"\xff\xfe[\0n\0]\0"[..], b"\xfe\xff\0[\0n\0]", b"[\0n\0]\0", b"\0[\0n\0]"] {
        bad(GOOD_CONFIG, text, utf16);
    }
}

/// C05.
#[test]
fn one_byte_order_mark_is_skipped_and_a_second_is_an_error() {
    let config = good(&format!("\u{feff}{GOOD_CONFIG}"), &format!("\u{feff}{GOOD_EXPORTERS}"));
    assert_eq!(config.exporters.len(), 1);
    bad(
        GOOD_CONFIG,
        format!("\u{feff}\u{feff}{GOOD_EXPORTERS}"),
        "exporters.ini:1: error: more than one byte order mark\n",
    );
}

/// C07.
#[test]
fn lines_may_end_in_crlf_but_not_in_a_bare_cr() {
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let config = good(&crlf(GOOD_CONFIG), &crlf(GOOD_EXPORTERS));
    assert_eq!(config.exporters[0].path.as_str(), "/metrics");
    let mixed = GOOD_EXPORTERS.replacen('\n', "\r\n", 2);
    assert_eq!(good(GOOD_CONFIG, &mixed).exporters.len(), 1);

    let lone = "a carriage return without a line feed; lines end in LF or CRLF";
    bad(
        GOOD_CONFIG,
        "[node]\nport = 1\r# old\npath = /\r\r\n# not even here\r",
        &[
            format!("exporters.ini:2: [node]: error: {lone}\n"),
            format!("exporters.ini:3: [node]: error: {lone}\n"),
            format!("exporters.ini:4: [node]: error: {lone}\n"),
        ]
        .concat(),
    );
}

#[test]
fn the_last_line_needs_no_line_ending() {
    let config = good(GOOD_CONFIG.trim_end(), GOOD_EXPORTERS.trim_end());
    assert_eq!(config.exporters[0].path.as_str(), "/metrics");
}

#[test]
fn lines_may_be_indented() {
    let indented = GOOD_EXPORTERS.replace('\n', "\t \n \t");
    assert_eq!(good(GOOD_CONFIG, &indented).exporters.len(), 1);
}

#[test]
fn mistakes_in_both_files_are_reported_together_in_file_order() {
    let config = format!("{GOOD_CONFIG}client-auth = maybe\n");
    let (loaded, diagnostics) = load(config, "[node]\nport = 0\npath = /\n");
    assert!(loaded.is_none());
    let lines: Vec<_> = diagnostics
        .iter()
        .map(|diagnostic| (diagnostic.location.line, diagnostic.location.key.as_deref()))
        .collect();
    let expected = [(Some(8), Some("client-auth")), (Some(2), Some("port"))];
    assert_eq!(lines, expected, "{diagnostics}");
}

#[test]
fn a_missing_exporters_file_is_an_error_unless_prometheus_is_disabled() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config.ini");
    fs::write(&file, GOOD_CONFIG).expect("config.ini is written");
    let (config, diagnostics) = load_files(&file, None);
    assert!(config.is_none());
    assert_eq!(rendered(&diagnostics), "exporters.ini: error: the file does not exist\n");

    let off = GOOD_CONFIG.replace("[prometheus]\n", "[prometheus]\nenabled = False\n");
    fs::write(&file, off).expect("config.ini is written");
    let (config, diagnostics) = load_files(&file, None);
    let config = config.unwrap_or_else(|| panic!("{diagnostics}"));
    assert!(!config.scrapes.enabled && config.exporters.is_empty());
}

#[test]
fn the_exporters_file_of_the_command_line_is_checked_even_without_a_config_ini() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let exporters = folder.path().join("exporters.ini");
    fs::write(&exporters, "[node]\n").expect("exporters.ini is written");
    let (config, diagnostics) = load_files(&folder.path().join("config.ini"), Some(&exporters));
    assert!(config.is_none());
    assert_eq!(diagnostics.iter().count(), 3, "{diagnostics}");
}

#[test]
fn exporters_text_in_memory_is_read_like_a_file() {
    let (exporters, diagnostics) = config::exporters_in(GOOD_EXPORTERS);
    let names: Vec<_> = exporters.iter().map(|exporter| exporter.name.value.as_str()).collect();
    assert_eq!((names, diagnostics.is_empty()), (vec!["node"], true), "{diagnostics}");
    let (exporters, diagnostics) = config::exporters_in("[a]\nprot = 1\n[b]\nprot = 2\n");
    assert!(exporters.is_empty() && !diagnostics.is_empty());
    let text = diagnostics.to_string();
    let mut lines = text.lines();
    let first = "prometheus_exporters.ini:2: [a] prot: error: unknown key; did you mean `port`?";
    assert_eq!(lines.next(), Some(first));
    assert!(lines.all(|line| line.starts_with("prometheus_exporters.ini:")), "{text}");
    assert_eq!(Advertised::parse("h:1").ok().and_then(|it| it.port).map(u16::from), Some(1));
    assert!(Advertised::parse("h:").is_err());
}

#[test]
fn the_exporters_file_is_named_by_config_ini_or_by_the_command_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("config.ini"), GOOD_CONFIG).expect("config.ini is written");
    fs::write(path("exporters.ini"), GOOD_EXPORTERS).expect("exporters.ini is written");
    for (config, exporters) in [("config.ini", None), ("nowhere.ini", Some("exporters.ini"))] {
        let sources =
            Sources { config: Some(path(config)), exporters: exporters.map(path), listen: None };
        let (exporters, diagnostics) = config::exporters(&sources);
        assert_eq!((exporters.len(), diagnostics.is_empty()), (1, true), "{diagnostics}");
    }
}
