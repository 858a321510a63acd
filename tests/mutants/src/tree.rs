//! The copy of the tree in which the mutants are built.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    Failure,
    mutant::Mutant,
    rewrite::{Rewritten, rewrite},
    sites::{Site, sites},
};

/// How a mutant is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Build {
    /// In the one build that has all of these, switched on by its number.
    Shared,
    /// In a build of its own.
    Alone,
    /// Not at all: it does not compile.
    Unviable,
}

/// The root of the crate, which gets the module with the switch.
const LIBRARY: &str = "src/lib.rs";

/// A copy of the tree, whose files this program may change.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// The files that change, as they were.
    sources: BTreeMap<String, String>,
}

/// The number of a mutant is its index plus one.
#[expect(clippy::cast_possible_truncation, reason = "there are a few thousand")]
pub(crate) fn number(index: usize) -> u32 {
    index as u32 + 1
}

impl Tree {
    pub(crate) fn new(root: PathBuf, mutants: &[Mutant]) -> Result<Self, Failure> {
        let mut sources = BTreeMap::new();
        for file in mutants.iter().map(|mutant| mutant.file.as_str()).chain([LIBRARY]) {
            if !sources.contains_key(file) {
                sources.insert(file.to_owned(), fs::read_to_string(root.join(file))?);
            }
        }
        Ok(Self { root, sources })
    }

    /// Puts all mutants into the sources that can be there. Leaves out, one `cargo check` after the
    /// other, what does not compile.
    pub(crate) fn switch_all(&self, mutants: &[Mutant]) -> Result<Vec<Build>, Failure> {
        let places = self.places(mutants)?;
        let alone = |site: &Site| if *site == Site::Alone { Build::Alone } else { Build::Shared };
        let mut builds: Vec<Build> = places.iter().map(alone).collect();
        fs::write(self.root.join("src/mutants.rs"), include_str!("switch.rs"))?;
        loop {
            let mut rewritten = BTreeMap::new();
            for (file, source) in &self.sources {
                let here = mutants.iter().zip(&places).zip(&builds).enumerate().filter_map(
                    |(index, ((mutant, site), build))| {
                        let is_here = mutant.file == *file && *build == Build::Shared;
                        is_here.then(|| (number(index), mutant, site))
                    },
                );
                let mut result = rewrite(source, here);
                if file == LIBRARY {
                    result.text.push_str("\nmod mutants;\n");
                }
                write_changed(&self.root.join(file), &result.text)?;
                rewritten.insert(file.clone(), result);
            }
            let errors = self.check()?;
            if errors.is_empty() {
                return Ok(builds);
            }
            let faults = faults(&errors, &rewritten)?;
            println!("{} errors, {} mutants left out", errors.len(), faults.len());
            for (mutant, build) in faults {
                builds[mutant as usize - 1] = build;
            }
        }
    }

    /// Puts one mutant into the sources as they were.
    pub(crate) fn apply(&self, mutant: &Mutant) -> Result<(), Failure> {
        self.restore()?;
        let mutated = mutant.apply(&self.sources[&mutant.file]);
        write_changed(&self.root.join(&mutant.file), &mutated)
    }

    /// Writes the sources as they were.
    pub(crate) fn restore(&self) -> Result<(), Failure> {
        for (file, source) in &self.sources {
            write_changed(&self.root.join(file), source)?;
        }
        Ok(())
    }

    fn places(&self, mutants: &[Mutant]) -> Result<Vec<Site>, Failure> {
        let mut of_files = BTreeMap::new();
        for (file, source) in &self.sources {
            of_files.insert(file, sites(source).map_err(|error| format!("{file}: {error}"))?);
        }
        mutants
            .iter()
            .map(|mutant| {
                let range = mutant.range(&self.sources[&mutant.file]);
                let site = of_files[&mutant.file].get(&(mutant.genre, range)).cloned();
                site.ok_or_else(|| format!("no such code: {}", mutant.name).into())
            })
            .collect()
    }

    /// The errors of the compiler.
    fn check(&self) -> Result<Vec<Value>, Failure> {
        let mut command = Command::new("cargo");
        command.current_dir(&self.root).args([
            "check",
            "--quiet",
            "--lib",
            "--message-format=json",
        ]);
        let output = command.stderr(Stdio::inherit()).output()?;
        let errors = messages(&output.stdout)
            .filter(|message| message["reason"] == "compiler-message")
            .map(|message| message["message"].clone())
            // The last message only counts the errors, and has no code and no place.
            .filter(|error| error["level"] == "error" && !is_empty(&error["spans"]))
            .collect::<Vec<_>>();
        if !output.status.success() && errors.is_empty() {
            return Err("cargo check fails without an error of the compiler".into());
        }
        Ok(errors)
    }
}

fn is_empty(array: &Value) -> bool {
    array.as_array().is_none_or(Vec::is_empty)
}

/// The messages of cargo, one a line.
pub(crate) fn messages(output: &[u8]) -> impl Iterator<Item = Value> {
    output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// Keeps the time of the file if nothing changes, so that cargo does not build it again.
fn write_changed(path: &Path, text: &str) -> Result<(), Failure> {
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    Ok(fs::write(path, text)?)
}

/// Which mutants the errors are about, and how these have to be built instead.
fn faults(
    errors: &[Value],
    files: &BTreeMap<String, Rewritten>,
) -> Result<HashSet<(u32, Build)>, Failure> {
    let mut faults = HashSet::new();
    for error in errors {
        let found = faults_of(error, files);
        if found.is_empty() {
            return Err(error["rendered"].as_str().unwrap_or("an error without text").into());
        }
        faults.extend(found);
    }
    Ok(faults)
}

fn faults_of(error: &Value, files: &BTreeMap<String, Rewritten>) -> Vec<(u32, Build)> {
    let spans = || error["spans"].as_array().into_iter().flatten();
    // The code of the mutant has another type than the original. Without a switch that may be
    // correct.
    let is_about_switch =
        error["message"].as_str().is_some_and(|text| text.contains("arms have incompatible types"));
    let of_mutant = if is_about_switch { Build::Alone } else { Build::Unviable };
    for is_primary in [true, false] {
        let spans = spans().filter(|span| span["is_primary"] == is_primary);
        let mutants: Vec<_> = spans
            .flat_map(|span| smallest(span, files, |file| &file.code_of_mutants))
            .map(|mutant| (mutant, of_mutant))
            .collect();
        if !mutants.is_empty() {
            return mutants;
        }
    }
    // The code as it was is wrong because of the switch around it.
    let primary = spans().filter(|span| span["is_primary"] == true);
    primary
        .flat_map(|span| smallest(span, files, |file| &file.switches))
        .map(|mutant| (mutant, Build::Alone))
        .collect()
}

/// The mutants whose range in the file of `span` has it, if there are several: the smallest range.
fn smallest(
    span: &Value,
    files: &BTreeMap<String, Rewritten>,
    ranges: impl Fn(&Rewritten) -> &Vec<(u32, Range<usize>)>,
) -> Vec<u32> {
    let Some(file) = span["file_name"].as_str().and_then(|name| files.get(name)) else {
        return Vec::new();
    };
    let offset = |key| span[key].as_u64().and_then(|at| usize::try_from(at).ok());
    let (Some(start), Some(end)) = (offset("byte_start"), offset("byte_end")) else {
        return Vec::new();
    };
    let around = || {
        let overlaps = move |range: &Range<usize>| range.start < end && start < range.end;
        ranges(file).iter().filter(move |(_, range)| overlaps(range))
    };
    let Some(length) = around().map(|(_, range)| range.len()).min() else { return Vec::new() };
    around().filter(|(_, range)| range.len() == length).map(|(mutant, _)| *mutant).collect()
}
