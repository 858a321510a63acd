//! `scrapegate import`: the modules of an exporter_exporter as a `prometheus_exporters.ini`.
//!
//! Every section that is printed has been read as the proxy will read it. What has no counterpart
//! is said on standard error, with its line.

mod module;
mod node;

use std::{
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
    str,
};

use saphyr::{LoadableYamlNode as _, MarkedYaml};

use self::{
    module::{Module, PasswordFiles},
    node::{Node, Source},
};
use super::{complain, exit};
use crate::{config, file};

/// Largest file that is read, in bytes.
const MOST: u64 = 1024 * 1024;

const HEAD: &str = "\
# Made by `scrapegate import` from the configuration of exporter_exporter. Scrapers ask for
# /prometheus?exporter=NAME in place of /proxy?module=NAME.
";

/// What to convert.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// exporter_exporter's configuration, such as expexp.yaml, or a module's file of -config.dirs
    file: PathBuf,
}

/// Why there is nothing to convert.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: file::ReadError },
    #[error("{}: not UTF-8", .0.display())]
    NotUtf8(PathBuf),
    #[error("{}: no YAML", path.display())]
    Yaml { path: PathBuf, source: saphyr::ScanError },
    #[error("{}: no configuration of exporter_exporter: it has neither `modules` nor `method`", .0.display())]
    NoModules(PathBuf),
    #[error("{imported}, {} left out: {}", names.len(), names.join(", "))]
    LeftOut { imported: Imported, names: Vec<String> },
    #[error("cannot write to the standard output")]
    Output(#[from] io::Error),
}

/// How many modules became sections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Imported(usize);

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} imported", self.0, if self.0 == 1 { "module" } else { "modules" })
    }
}

impl Error {
    /// 78 for what is wrong with the file, 71 for the machine, 1 for a module that is left out.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Read { .. } | Self::NotUtf8(_) | Self::Yaml { .. } | Self::NoModules(_) => {
                exit::CONFIGURATION
            }
            Self::LeftOut { .. } => exit::MISTAKES,
            Self::Output(_) => exit::SYSTEM,
        }
    }
}

/// Prints the INI; on standard error, what is not in it.
///
/// # Errors
/// When the file cannot be read, is another's, or has a module that is left out.
pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Error> {
    let path = || args.file.clone();
    let bytes =
        file::read(&args.file, MOST).map_err(|source| Error::Read { path: path(), source })?;
    let text = str::from_utf8(&bytes).map_err(|_| Error::NotUtf8(path()))?;
    let documents =
        MarkedYaml::load_from_str(text).map_err(|source| Error::Yaml { path: path(), source })?;
    let root = documents.first().ok_or_else(|| Error::NoModules(path()))?;
    let root = Node::new(root, &Source::new(text));
    let mut remarks = Remarks::default();
    let Sections { ini, imported, left_out } =
        read_root(&root, &args.file, &mut remarks).ok_or_else(|| Error::NoModules(path()))?;
    for remark in &remarks.0 {
        complain(format_args!("{}:{remark}", args.file.display()));
    }
    write!(out, "{HEAD}{ini}")?;
    out.flush()?;
    if !left_out.is_empty() {
        return Err(Error::LeftOut { imported, names: left_out });
    }
    complain(imported);
    Ok(())
}

/// What became of the modules.
#[derive(Default)]
struct Sections {
    ini: String,
    imported: Imported,
    /// Their names, escaped.
    left_out: Vec<String>,
}

impl Sections {
    fn add(&mut self, name: &str, section: Option<String>) {
        match section {
            Some(section) => {
                self.ini += &section;
                self.imported.0 += 1;
            }
            None => self.left_out.push(name.escape_debug().to_string()),
        }
    }
}

/// The sections of a file with `modules`, or of one that is a module and has its name: those of
/// `-config.dirs`. `None` for any other.
fn read_root(root: &Node, file: &Path, remarks: &mut Remarks) -> Option<Sections> {
    let mut passwords = PasswordFiles::default();
    let mut sections = Sections::default();
    if !root.has("modules") {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let is_module = root.has("method");
        return is_module.then(|| {
            sections.add(&name, convert(&name, root, root, &mut passwords, remarks));
            sections
        });
    }
    for (key, value) in root.entries() {
        match key.text().unwrap_or_default().as_str() {
            "modules" => {
                for (at, node) in value.entries() {
                    let name = at.text().unwrap_or_default();
                    sections.add(&name, convert(&name, at, node, &mut passwords, remarks));
                }
            }
            "global" => {}
            other => remarks.add(key, None, format!("`{other}` has no counterpart")),
        }
    }
    Some(sections)
}

/// The section of the module `name`; nothing when it cannot have one.
fn convert(
    name: &str,
    at: &Node,
    node: &Node,
    passwords: &mut PasswordFiles,
    remarks: &mut Remarks,
) -> Option<String> {
    let section = Module::read(name, at, node, passwords, remarks)?;
    // What the proxy would refuse, it refuses here with the same words.
    let text = section.to_string();
    let (exporters, findings) = config::exporters_in(&text);
    if exporters.iter().any(|it| it.name.value.as_str() == name) && !findings.has_errors() {
        return Some(text);
    }
    let why = findings.iter().map(|finding| match &finding.origin.key {
        Some(key) => format!("{key}: {}", finding.message),
        None => finding.message.clone(),
    });
    let why: Vec<_> = why.collect();
    let why = if why.is_empty() { "the name".to_owned() } else { why.join("; ") };
    remarks.add(at, Some(name), format!("left out: {why}"));
    None
}

/// What has no counterpart, and other things to know.
#[derive(Default)]
struct Remarks(Vec<Remark>);

struct Remark {
    line: usize,
    module: Option<String>,
    message: String,
}

impl Remarks {
    /// Remarks something about what stands at `node`.
    fn add(&mut self, node: &Node, module: Option<&str>, message: String) {
        let module = module.map(str::to_owned);
        self.0.push(Remark { line: node.line, module, message });
    }
}

impl fmt::Display for Remark {
    /// `LINE: module NAME: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if let Some(module) = &self.module {
            write!(f, "module {}: ", module.escape_debug())?;
        }
        f.write_str(&self.message)
    }
}
