//! The results of a group as text.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use crate::{mutant::Mutant, suite::Verdict};

/// How many mutants of a file, a group or the tree got which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    caught: u32,
    survived: u32,
    timed_out: u32,
    unviable: u32,
}

impl Counts {
    fn add(&mut self, verdict: &Verdict) {
        let count = match verdict {
            Verdict::Caught(_) => &mut self.caught,
            Verdict::Survived | Verdict::Unreached => &mut self.survived,
            Verdict::TimedOut => &mut self.timed_out,
            Verdict::Unviable => &mut self.unviable,
        };
        *count += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let viable = self.caught + self.survived + self.timed_out;
        let share = 100.0 * f64::from(self.caught) / f64::from(viable.max(1));
        write!(
            f,
            "{viable} | {} | {} | {} | {} | {share:.1} %",
            self.caught, self.timed_out, self.survived, self.unviable
        )
    }
}

/// A table with a row for each file, then the survivors.
pub(crate) fn text(verdicts: &[(&Mutant, Verdict)]) -> String {
    let mut files: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut all = Counts::default();
    for (mutant, verdict) in verdicts {
        files.entry(&mutant.file).or_default().add(verdict);
        all.add(verdict);
    }
    let mut text = String::from(
        "| file | viable | caught | timed out | survived | unviable | share |\n|---|---|---|---|---|---|---|\n",
    );
    // Writing to a string does not fail.
    for (file, counts) in files {
        let _ = writeln!(text, "| `{file}` | {counts} |");
    }
    let _ = writeln!(text, "| **all** | {all} |\n");
    for (mutant, verdict) in verdicts {
        let why = match verdict {
            Verdict::Caught(_) | Verdict::Unviable => continue,
            Verdict::Survived => "survived",
            Verdict::Unreached => "no test runs it",
            Verdict::TimedOut => "timed out",
        };
        let _ = writeln!(text, "{} ({why})", mutant.name);
    }
    text
}
