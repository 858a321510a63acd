//! Mutation testing with one build for almost all mutants.
//!
//! cargo-mutants lists the mutants of a group. This program puts all of them into a copy of the
//! tree, each behind a switch (`switch.rs`), builds the test programs once, and runs for each mutant
//! the tests that reach its code. A mutant that the switch cannot express is built alone.
#![expect(clippy::print_stdout, reason = "the results")]

mod campaign;
mod groups;
mod journal;
mod mutant;
mod program;
mod report;
mod rewrite;
mod sites;
#[cfg(test)]
mod small_crate;
mod suite;
#[cfg_attr(not(test), expect(dead_code, reason = "the crate under test calls it"))]
mod switch;
mod tree;

use std::{fs, path::PathBuf, process::ExitCode, thread};

use clap::Parser;

use crate::{
    campaign::Campaign,
    groups::{GROUPS, Group},
    journal::Journal,
    mutant::Mutant,
    tree::Tree,
};

/// Why the campaign cannot go on.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Arguments {
    /// A copy of the tree. The program changes its files
    #[arg(long)]
    tree: PathBuf,
    /// The folder for the results. Mutants that have a result there are not tested again
    #[arg(long)]
    results: PathBuf,
    /// Mutants tested at a time [default: the number of processors]
    #[arg(long)]
    jobs: Option<usize>,
    /// Only mutants whose name contains this text
    #[arg(long)]
    only: Option<String>,
    #[arg(required = true)]
    groups: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let groups = arguments.groups.iter().map(|name| group(name)).collect::<Result<Vec<_>, _>>()?;
    let root = arguments.tree.canonicalize()?;
    let mut mutants = Vec::new();
    for group in &groups {
        mutants.extend(mutant::list(&root, group)?);
    }
    if let Some(text) = &arguments.only {
        mutants.retain(|mutant: &Mutant| mutant.name.contains(text));
    }
    if mutants.len() >= switch::MAX {
        return Err("there are more mutants than the switch has numbers".into());
    }
    let campaign = Campaign {
        tree: Tree::new(root, &mutants)?,
        mutants,
        journal: Journal::open(&arguments.results)?,
        jobs: arguments
            .jobs
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into)),
    };
    campaign.run(&groups)?;
    for group in &groups {
        let verdicts = campaign.of(group).filter_map(|(_, mutant)| {
            let verdict = campaign.journal.verdict(&mutant.name)?;
            Some((mutant, verdict))
        });
        let text = report::text(&verdicts.collect::<Vec<_>>());
        fs::write(arguments.results.join(group.name).with_extension("md"), &text)?;
        println!("\n{}\n\n{text}", group.name);
    }
    Ok(())
}

fn group(name: &str) -> Result<&'static Group, Failure> {
    let names = || GROUPS.map(|group| group.name).join(" ");
    let found = GROUPS.iter().find(|group| group.name == name);
    found.ok_or_else(|| format!("no group {name}; the groups are: {}", names()).into())
}
