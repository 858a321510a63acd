//! Reads both files, and collects the diagnostics of both.

use std::{path::PathBuf, sync::Arc};

use super::{
    config_ini::{self, Config},
    diagnostics::{Diagnostic, Diagnostics, Location},
    exporters::{self, ExporterConfig},
    folders,
    ini::{self, Document, SectionNames},
    keys,
    section_reader::Reported,
    sources::Sources,
    text,
};
use crate::common::file::FileSet;

/// Reads the text of an exporters file that does not exist yet. The diagnostics name
/// `prometheus_exporters.ini` as the file.
#[must_use]
pub fn exporters_in(text: &str) -> (Vec<ExporterConfig>, Diagnostics) {
    let file = Arc::new(PathBuf::from("prometheus_exporters.ini"));
    let mut diagnostics = Diagnostics::default();
    let mut document = ini::parse(&file, text, SectionNames::ByteForByte, &mut diagnostics);
    keys::check_exporters(&mut document, &mut diagnostics);
    let exporters = exporters::read(&document, &mut diagnostics);
    diagnostics.tidy();
    (exporters, diagnostics)
}

/// Reads both files and reports all problems.
///
/// The first value is `None` if a diagnostic is an error. The second value has all diagnostics.
#[must_use]
pub fn load(sources: &Sources) -> (Option<Config>, Diagnostics) {
    let (config, diagnostics) = survey(sources, &mut FileSet::default());
    (config.filter(|_| !diagnostics.has_errors()), diagnostics)
}

/// Like [`load`], but returns what could be read even if other parts have errors. The caller can
/// then check the files that the configuration names, and report their errors too. A configuration
/// with errors is not fit for use.
///
/// The files that were read are added to `files`.
#[must_use]
pub fn survey(sources: &Sources, files: &mut FileSet) -> (Option<Config>, Diagnostics) {
    let mut all = Diagnostics::default();
    let names = SectionNames::IgnoreCase;
    let read = config_file(sources, &mut all).and_then(|file| {
        with_document(&file, names, files, &mut all, |document, diagnostics| {
            keys::check_config_ini(document, diagnostics);
            config_ini::read(document, sources, diagnostics)
        })
    });
    // Without a `config.ini`, only the command line can name the exporters file.
    let (config, file) = match read {
        Ok(read) => {
            let file = read.exporters;
            let file = file.map(|file| sources.exporters.clone().unwrap_or(file));
            (read.config, file)
        }
        Err(reported) => (Err(reported), sources.exporters.clone()),
    };
    let exporters = file.map_or(Ok(Vec::new()), |file| read_exporters(file, files, &mut all));
    let config =
        config.ok().map(|config| Config { exporters: exporters.unwrap_or_default(), ..config });
    debug_assert!(config.is_some() || all.has_errors(), "{all}");
    (config, all)
}

/// The valid sections of the exporters file, for commands that look at one exporter and serve
/// nothing. The diagnostics describe the other sections.
///
/// If [`Sources::exporters`] is absent, `config.ini` is read for the path of the exporters file.
/// Errors in `config.ini` are reported only if they hide that path.
#[must_use]
pub fn exporters(sources: &Sources) -> (Vec<ExporterConfig>, Diagnostics) {
    let (mut all, mut files) = (Diagnostics::default(), FileSet::default());
    let file = sources.exporters.clone().or_else(|| {
        let mut mistakes = Diagnostics::default();
        let names = SectionNames::IgnoreCase;
        let read = |document: &mut Document, diagnostics: &mut Diagnostics| {
            config_ini::read(document, sources, diagnostics).exporters
        };
        let file = config_file(sources, &mut all).ok()?;
        match with_document(&file, names, &mut files, &mut mistakes, read) {
            Ok(Some(path)) => return Some(path),
            Ok(None) => {
                let message = "`[prometheus] enabled` is False, so no exporters are configured";
                all.push(Diagnostic::error(Location::of_file(&file), message));
            }
            Err(Reported) => all.extend(mistakes),
        }
        None
    });
    let exporters = file.and_then(|file| read_exporters(file, &mut files, &mut all).ok());
    (exporters.unwrap_or_default(), all)
}

/// The `config.ini` to read. If no folder has one, the diagnostic names all places that were
/// searched.
fn config_file(sources: &Sources, all: &mut Diagnostics) -> Result<Arc<PathBuf>, Reported> {
    let file = Arc::new(sources.config_file());
    if sources.config.is_some() || folders::find().is_some() {
        return Ok(file);
    }
    let [_, agents] = folders::candidates();
    all.push(Diagnostic::error(
        Location::of_file(&file),
        format!(
            "the file does not exist, and {} does not exist either; name the file with --config",
            agents.display()
        ),
    ));
    Err(Reported)
}

fn read_exporters(
    file: PathBuf,
    files: &mut FileSet,
    all: &mut Diagnostics,
) -> Result<Vec<ExporterConfig>, Reported> {
    with_document(
        &Arc::new(file),
        SectionNames::ByteForByte,
        files,
        all,
        |document, diagnostics| {
            keys::check_exporters(document, diagnostics);
            exporters::read(document, diagnostics)
        },
    )
}

/// Reads `file` and passes it to `interpret`. Adds the diagnostics, ordered by line.
fn with_document<T>(
    file: &Arc<PathBuf>,
    names: SectionNames,
    files: &mut FileSet,
    all: &mut Diagnostics,
    interpret: impl FnOnce(&mut Document, &mut Diagnostics) -> T,
) -> Result<T, Reported> {
    let mut diagnostics = Diagnostics::default();
    let result = match text::read(file, files) {
        Ok(text) => {
            let mut document = ini::parse(file, &text, names, &mut diagnostics);
            Ok(interpret(&mut document, &mut diagnostics))
        }
        Err(error) => {
            let location = Location { line: error.line(), ..Location::of_file(file) };
            diagnostics.push(Diagnostic::error(location, error.to_string()));
            Err(Reported)
        }
    };
    diagnostics.tidy();
    all.extend(diagnostics);
    result
}
