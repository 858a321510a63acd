//! What the two files may say, and what is said about their mistakes.
//!
//! Where the cases of the project's list are, as far as they are about the text of the files:
//!
//! | case | fixtures and tests |
//! |---|---|
//! | C03 | `empty`, `comments-only`, `all-disabled` |
//! | C08, C10 | `broken-lines`, `ten-mistakes` |
//! | C11 | `blank-values`, `missing`, `broken-lines` |
//! | C12, C13 | `broken-lines`, `ten-mistakes`, `names` |
//! | C15 | `unknown-keys`, `mistyped-proxy`, `mistyped-plain-http` |
//! | C17 | `inline-comments` |
//! | C19 | `every-key`, `invisible`, `backslashes_are_taken_as_they_are` |
//! | C21, C22 | `times`, `values`, `what_is_no_length_of_time_is_refused_at_each_key` |
//! | C25 | `values`, `invisible`, `lines_may_end_in_crlf_but_not_in_cr` |

#[path = "config/fixtures.rs"]
mod fixtures;
#[path = "config/reading.rs"]
mod reading;
#[path = "config/values.rs"]
mod values;

use std::path::{Path, PathBuf};

use scrapegate::config::{self, Config, Findings, Sources};

/// The folder with the fixtures.
fn fixtures_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// A `config.ini` without a mistake, which names `exporters.ini` beside it.
const GOOD_CONFIG: &str = "\
[default]
certfile = server.crt
keyfile = server.key
[prometheus]
exporters = exporters.ini
[proxy]
client-ca = ca.crt
";

/// An exporters file without a mistake.
const GOOD_EXPORTERS: &str = "\
[node]
enabled = yes
port = 9100
path = /metrics
";

/// Loads two files with these contents from a folder of their own.
fn load(config: impl AsRef<[u8]>, exporters: impl AsRef<[u8]>) -> (Option<Config>, Findings) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("config.ini"), config).expect("config.ini is written");
    std::fs::write(folder.path().join("exporters.ini"), exporters)
        .expect("exporters.ini is written");
    load_files(&folder.path().join("config.ini"), None)
}

fn load_files(config: &Path, exporters: Option<&Path>) -> (Option<Config>, Findings) {
    config::load(&Sources {
        config: Some(config.to_owned()),
        exporters: exporters.map(Path::to_owned),
        listen: None,
    })
}

/// The findings one a line, each file by its name alone.
fn rendered(findings: &Findings) -> String {
    findings
        .iter()
        .map(|finding| {
            let mut finding = finding.clone();
            let name = finding.origin.file.file_name().expect("a file has a name");
            finding.origin.file = PathBuf::from(name).into();
            format!("{finding}\n")
        })
        .collect()
}

/// Asserts that two files with these contents have no error, and gives what they say.
#[track_caller]
fn good(config: &str, exporters: &str) -> Config {
    let (config, findings) = load(config, exporters);
    config.unwrap_or_else(|| panic!("{findings}"))
}

/// Asserts the exact findings about two files with these contents, at least one of them an error.
#[track_caller]
fn bad(config: impl AsRef<[u8]>, exporters: impl AsRef<[u8]>, expected: &str) {
    let (config, findings) = load(config, exporters);
    assert_eq!(rendered(&findings), expected);
    assert!(config.is_none() && findings.has_errors());
}
