//! Reading `config.ini` and `prometheus_exporters.ini`: accepted values, and the diagnostics for
//! mistakes.
//!
//! Where to find the cases of the project's list that concern the text of these files:
//!
//! | case | fixtures and tests |
//! |---|---|
//! | C03 | `empty`, `comments-only`, `all-disabled` |
//! | C08, C10 | `broken-lines`, `ten-mistakes` |
//! | C11 | `blank-values`, `missing`, `broken-lines` |
//! | C12, C13 | `broken-lines`, `ten-mistakes`, `names` |
//! | C15 | `unknown-keys`, `mistyped-proxy`, `mistyped-plain-http` |
//! | C17 | `inline-comments` |
//! | C19 | `every-key`, `invisible`, `backslashes_are_kept_literally` |
//! | C21, C22 | `times`, `values`, `every_duration_key_refuses_values_that_are_not_durations` |
//! | C25 | `values`, `invisible`, `lines_may_end_in_crlf_but_not_in_a_bare_cr` |

mod fixtures;
mod reading;
mod values;

use std::path::{Path, PathBuf};

use scrapegate::config::{self, Config, Diagnostics, Sources};

/// The folder of the fixtures.
fn fixtures_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// A `config.ini` without a mistake. It names `exporters.ini` in the same folder.
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

/// Writes both files into a temporary folder and loads them.
fn load(config: impl AsRef<[u8]>, exporters: impl AsRef<[u8]>) -> (Option<Config>, Diagnostics) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("config.ini"), config).expect("config.ini is written");
    std::fs::write(folder.path().join("exporters.ini"), exporters)
        .expect("exporters.ini is written");
    load_files(&folder.path().join("config.ini"), None)
}

fn load_files(config: &Path, exporters: Option<&Path>) -> (Option<Config>, Diagnostics) {
    config::load(&Sources {
        config: Some(config.to_owned()),
        exporters: exporters.map(Path::to_owned),
        listen: None,
    })
}

/// The diagnostics, one on each line. Each file is shown by its name only.
fn rendered(diagnostics: &Diagnostics) -> String {
    diagnostics
        .iter()
        .map(|diagnostic| {
            let mut diagnostic = diagnostic.clone();
            let name = diagnostic.location.file.file_name().expect("a file has a name");
            diagnostic.location.file = PathBuf::from(name).into();
            format!("{diagnostic}\n")
        })
        .collect()
}

/// Asserts that loading two files with these contents finds no error; returns the result.
#[track_caller]
fn good(config: &str, exporters: &str) -> Config {
    let (config, diagnostics) = load(config, exporters);
    config.unwrap_or_else(|| panic!("{diagnostics}"))
}

/// Asserts the exact diagnostics for two files with these contents. At least one diagnostic must be
/// an error.
#[track_caller]
fn bad(config: impl AsRef<[u8]>, exporters: impl AsRef<[u8]>, expected: &str) {
    let (config, diagnostics) = load(config, exporters);
    assert_eq!(rendered(&diagnostics), expected);
    assert!(config.is_none() && diagnostics.has_errors());
}
