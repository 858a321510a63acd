//! What is, and is not, a file that can be read (C01; `tests/process/files.rs` has the files that
//! these name).

use std::{fs, path::Path, time::Instant};

use scrapegate::config::{self, Sources};

use crate::{GOOD_CONFIG, GOOD_EXPORTERS, bad, good, load, load_files, rendered};

/// Asserts the one finding about `prepare`d `config.ini`.
#[cfg(unix)]
#[track_caller]
fn unreadable(prepare: impl FnOnce(&Path), expected: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config.ini");
    prepare(&file);
    let start = Instant::now();
    let (config, findings) = load_files(&file, None);
    assert!(config.is_none());
    assert_eq!(rendered(&findings), format!("config.ini: error: {expected}\n"));
    // The whole path is named, too.
    assert!(findings.to_string().starts_with(&file.display().to_string()));
    assert!(start.elapsed().as_secs() < 5);
}

#[cfg(unix)]
mod what_is_no_file {
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
    fn a_dangling_link_is_an_error() {
        unreadable(
            |file| symlink("nowhere", file).expect("the link is made"),
            "a symbolic link that points to nothing",
        );
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.ini");
        symlink("config.ini", &file).expect("the link is made");
        let (config, findings) = load_files(&file, None);
        assert!(config.is_none());
        let text = rendered(&findings);
        assert!(text.starts_with("config.ini: error: cannot be read: "), "{text}");
    }

    #[test]
    fn a_file_that_cannot_be_reached_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("no-folder"), "").expect("the file is written");
        let file = folder.path().join("no-folder/config.ini");
        let (config, findings) = load_files(&file, None);
        assert!(config.is_none());
        let start = format!("{}: error: cannot be read: ", file.display());
        assert!(findings.to_string().starts_with(&start), "{findings}");
    }

    #[test]
    fn a_link_to_a_file_is_read_but_relative_paths_start_at_the_link() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("real")).expect("the directory is made");
        fs::write(path("real/config.ini"), GOOD_CONFIG).expect("config.ini is written");
        fs::write(path("exporters.ini"), GOOD_EXPORTERS).expect("exporters.ini is written");
        symlink("real/config.ini", path("config.ini")).expect("the link is made");
        let (config, findings) = load_files(&path("config.ini"), None);
        assert!(config.is_some(), "{findings}");
    }
}

/// C01.
#[test]
fn more_than_a_mebibyte_is_too_large_and_a_mebibyte_is_not() {
    let mut text = GOOD_CONFIG.to_owned();
    text += &"#".repeat(1024 * 1024 - text.len());
    good(&text, GOOD_EXPORTERS);
    text.push('#');
    let too_large = "config.ini: error: larger than 1048576 bytes, the most that is read\n";
    bad(&text, GOOD_EXPORTERS, too_large);
}

/// C04.
#[test]
fn a_byte_that_is_not_utf_8_is_named_by_its_offset() {
    let expected = "exporters.ini:2: error: not UTF-8: the byte at offset 5 begins no character\n";
    bad(GOOD_CONFIG, b"[n]\n#\xff\n", expected);
}

#[test]
fn f10_utf_16_is_named_with_what_to_do() {
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
fn lines_may_end_in_crlf_but_not_in_cr() {
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
fn the_last_line_needs_no_end() {
    let config = good(GOOD_CONFIG.trim_end(), GOOD_EXPORTERS.trim_end());
    assert_eq!(config.exporters[0].path.as_str(), "/metrics");
}

#[test]
fn lines_may_be_indented() {
    let indented = GOOD_EXPORTERS.replace('\n', "\t \n \t");
    assert_eq!(good(GOOD_CONFIG, &indented).exporters.len(), 1);
}

#[test]
fn both_files_are_reported_at_once_in_their_order() {
    let config = format!("{GOOD_CONFIG}client-auth = maybe\n");
    let (loaded, findings) = load(config, "[node]\nport = 0\npath = /\n");
    assert!(loaded.is_none());
    let lines: Vec<_> = findings
        .iter()
        .map(|finding| (finding.origin.line, finding.origin.key.as_deref()))
        .collect();
    let expected = [(Some(8), Some("client-auth")), (Some(2), Some("port"))];
    assert_eq!(lines, expected, "{findings}");
}

#[test]
fn a_missing_exporters_file_is_an_error_unless_prometheus_is_off() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config.ini");
    fs::write(&file, GOOD_CONFIG).expect("config.ini is written");
    let (config, findings) = load_files(&file, None);
    assert!(config.is_none());
    assert_eq!(rendered(&findings), "exporters.ini: error: the file does not exist\n");

    let off = GOOD_CONFIG.replace("[prometheus]\n", "[prometheus]\nenabled = False\n");
    fs::write(&file, off).expect("config.ini is written");
    let (config, findings) = load_files(&file, None);
    let config = config.unwrap_or_else(|| panic!("{findings}"));
    assert!(!config.prometheus_enabled && config.exporters.is_empty());
}

#[test]
fn without_a_config_the_exporters_file_of_the_command_line_is_still_checked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let exporters = folder.path().join("exporters.ini");
    fs::write(&exporters, "[node]\n").expect("exporters.ini is written");
    let (config, findings) = load_files(&folder.path().join("config.ini"), Some(&exporters));
    assert!(config.is_none());
    assert_eq!(findings.iter().count(), 3, "{findings}");
}

#[test]
fn an_exporters_file_that_is_not_written_yet_is_read_like_one_that_is() {
    let (exporters, findings) = config::exporters_in(GOOD_EXPORTERS);
    let names: Vec<_> = exporters.iter().map(|exporter| exporter.name.value.as_str()).collect();
    assert_eq!((names, findings.is_empty()), (vec!["node"], true), "{findings}");
    let (exporters, findings) = config::exporters_in("[a]\nprot = 1\n[b]\nprot = 2\n");
    assert!(exporters.is_empty() && !findings.is_empty());
    let text = findings.to_string();
    let mut lines = text.lines();
    let first = "prometheus_exporters.ini:2: [a] prot: error: unknown key; did you mean `port`?";
    assert_eq!(lines.next(), Some(first));
    assert!(lines.all(|line| line.starts_with("prometheus_exporters.ini:")), "{text}");
    assert_eq!(config::advertised("h:1").and_then(|it| it.port).map(u16::from), Some(1));
    assert!(config::advertised("h:").is_none());
}

#[test]
fn exporters_are_found_through_the_config_or_by_the_command_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("config.ini"), GOOD_CONFIG).expect("config.ini is written");
    fs::write(path("exporters.ini"), GOOD_EXPORTERS).expect("exporters.ini is written");
    for (config, exporters) in [("config.ini", None), ("nowhere.ini", Some("exporters.ini"))] {
        let sources =
            Sources { config: Some(path(config)), exporters: exporters.map(path), listen: None };
        let (exporters, findings) = config::exporters(&sources);
        assert_eq!((exporters.len(), findings.is_empty()), (1, true), "{findings}");
    }
}
