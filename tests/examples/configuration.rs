//! Configuration files in the documents. `scrapegate check` reads our own; files of other programs
//! are checked as far as their format allows.

use std::{fs, path::Path, process::Command};

use saphyr::{LoadableYamlNode as _, Yaml};
use scrapegate_harness::documents::{Block, blocks, files, root};
use tempfile::TempDir;

/// A folder with certificates and both files of `packaging/examples`.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().expect("a temporary folder"));
        for file in ["config.ini", "prometheus_exporters.ini"] {
            let example = root().join("packaging/examples").join(file);
            fs::copy(example, site.path().join(file)).expect("copied");
        }
        site.print(&["certs", "--out", "tls", "--host", "localhost"]);
        site
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path().join(file), text).expect("written");
    }

    /// The output of `scrapegate` with these arguments.
    #[track_caller]
    fn print(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_scrapegate"))
            .current_dir(self.path())
            .args(arguments)
            .output()
            .expect("the binary runs");
        let out = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success(), "{arguments:?}: {out}{:?}", output.stderr);
        out
    }
}

/// Asserts that one of the two INI files has no finding.
pub(crate) fn read_ini(block: &Block) {
    let is_config = ["[default]\n", "[prometheus]\n", "[proxy]\n"]
        .iter()
        .any(|section| block.text.contains(section));
    let site = Site::new();
    let file = if is_config { "config.ini" } else { "prometheus_exporters.ini" };
    site.write(file, &block.text);
    let said = without_user(&site.print(&["check", "--config", "config.ini"]));
    assert!(said.starts_with("config  config.ini\nlisten "), "{block}: {said}");
}

/// Reads a whole unit or a part of a unit.
pub(crate) fn read_unit(block: &Block) {
    for line in block.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let is_section = line.starts_with('[') && line.ends_with(']');
        let setting = line.split_once('=');
        let is_setting =
            setting.is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_alphanumeric()));
        assert!(is_section || is_setting, "{block}: {line}");
        if let Some(("ExecStart", command)) = setting {
            let words = command.split_whitespace();
            if let Err(error) = scrapegate::cli::command().try_get_matches_from(words) {
                panic!("{block}: {line}: {error}");
            }
        }
    }
}

pub(crate) fn read_yaml(block: &Block) {
    assert_yaml(&block.to_string(), &block.text);
}

/// Asserts that the text consists of YAML documents, each a mapping or a list.
fn assert_yaml(place: &str, text: &str) {
    let documents = Yaml::load_from_str(text).unwrap_or_else(|error| panic!("{place}: {error}"));
    let is_structure = |it: &Yaml<'_>| it.is_mapping() || it.is_sequence();
    assert!(!documents.is_empty() && documents.iter().all(is_structure), "{place}");
}

/// `tests/docs.rs` checks the metric names, and promtool parses the queries in
/// `tests/real/examples.rs`.
pub(crate) fn read_promql(block: &Block) {
    let depth = block.text.chars().try_fold(0_u32, |depth, c| match c {
        '(' => Some(depth + 1),
        ')' => depth.checked_sub(1),
        _ => Some(depth),
    });
    assert_eq!(depth, Some(0), "{block}");
}

#[test]
fn every_yaml_file_in_packaging_is_valid_yaml() {
    let all = files(&root().join("packaging"), &[".yml", ".yaml"]);
    assert!(all.len() > 4, "{all:?}");
    for file in all {
        assert_yaml(&file.display().to_string(), &fs::read_to_string(&file).expect("UTF-8"));
    }
}

#[test]
fn the_configuration_in_the_manifest_loads_without_a_finding() {
    let file = root().join("packaging/kubernetes/daemonset.yaml");
    let text = fs::read_to_string(file).expect("UTF-8");
    let documents = Yaml::load_from_str(&text).expect("YAML");
    let site = Site::new();
    for (file, start) in
        [("config.ini", "[default]\n"), ("prometheus_exporters.ini", "[node_exporter]\n")]
    {
        let data = documents[0]["data"][file].as_str().expect("a file of the ConfigMap");
        assert!(data.starts_with(start), "{data}");
        // The folder where the Secret is mounted.
        let data = data.replace("/tls/tls.", "tls/server.").replace("/tls/ca.crt", "tls/ca.crt");
        site.write(file, &data);
    }
    let said = without_user(&site.print(&["check", "--config", "config.ini"]));
    assert!(
        said.starts_with("config  config.ini\nlisten ") && said.contains("\nnode_exporter  yes "),
        "{said}"
    );
}

#[test]
fn the_example_files_load_without_a_finding_as_they_are_and_with_each_key_that_is_commented_out() {
    const FILES: [&str; 2] = ["config.ini", "prometheus_exporters.ini"];
    for folder in ["examples", "debian"] {
        let site = Site::new();
        let texts = FILES.map(|file| {
            let path = root().join("packaging").join(folder).join(file);
            let text = fs::read_to_string(path).expect("UTF-8");
            // The package enables no exporter, and `check` warns about that.
            text.replace("enabled = False", "enabled = True")
        });
        let check = || {
            let said = without_user(&site.print(&["check", "--config", "config.ini"]));
            assert!(said.starts_with("config  config.ini\nlisten "), "{folder}: {said}");
        };
        for (file, text) in FILES.iter().zip(&texts) {
            site.write(file, text);
        }
        check();
        // A comment has a blank after its sign.
        let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
        for (file, text) in FILES.iter().zip(&texts) {
            assert!(text.lines().any(|line| is_key(&line)), "{folder}/{file}");
            for line in text.lines().filter(is_key) {
                site.write(file, &text.replace(line, &line[1..]));
                check();
            }
            site.write(file, text);
        }
    }
}

/// Removes the row that `check` prints for root only. In the docs, the service's user runs the
/// commands.
fn without_user(printed: &str) -> String {
    printed.split_inclusive('\n').filter(|line| !line.starts_with("user ")).collect()
}

/// The output that the documents show after a command.
fn shown(command: &str) -> String {
    let all: Vec<String> = blocks()
        .into_iter()
        .filter_map(|block| Some(block.text.strip_prefix(&format!("$ {command}\n"))?.to_owned()))
        .collect();
    let [only] = &all[..] else { panic!("{command}: {} times", all.len()) };
    only.clone()
}

#[test]
fn sd_prints_what_the_docs_show() {
    let site = Site::new();
    let config = fs::read_to_string(site.path().join("config.ini")).expect("UTF-8");
    site.write("config.ini", &(config + "advertise = node1.example.org\n"));
    let printed = site.print(&["sd", "-c", "config.ini", "--format", "scrape_config"]);
    let command = "scrapegate sd -c /etc/scrapegate/config.ini --format scrape_config";
    assert_eq!(shown(command), printed);
}

#[test]
fn check_prints_what_the_docs_show_except_the_days() {
    let site = Site::new();
    let printed = without_user(&site.print(&["check", "-c", "config.ini"]));
    let shown = without_user(&shown("sudo scrapegate check -c /etc/scrapegate/config.ini"));
    let words = |text: &str| -> Vec<String> {
        let no_day =
            |word: &&str| word.contains(':') || word.contains(|c: char| c.is_ascii_alphabetic());
        let folder = |word: &str| word.replace("/etc/scrapegate/", "");
        text.split_whitespace().filter(no_day).map(folder).collect()
    };
    assert_eq!(words(&shown), words(&printed));
}
