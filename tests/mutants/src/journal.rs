//! The verdicts, in a file, so that a campaign that was stopped can continue.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Write,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{Failure, suite::Verdict};

/// The file with all verdicts, one JSON object a line. Of two for one mutant the later one counts.
pub(crate) struct Journal {
    state: Mutex<State>,
}

struct State {
    file: File,
    verdicts: HashMap<String, Verdict>,
}

#[derive(Deserialize, Serialize)]
struct Line {
    mutant: String,
    verdict: Verdict,
}

impl Journal {
    /// Opens `verdicts.jsonl` in `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder)?;
        let path = folder.join("verdicts.jsonl");
        let file = File::options().append(true).create(true).open(&path)?;
        let mut verdicts = HashMap::new();
        for line in fs::read_to_string(&path)?.lines() {
            let line: Line = serde_json::from_str(line)?;
            verdicts.insert(line.mutant, line.verdict);
        }
        Ok(Self { state: Mutex::new(State { file, verdicts }) })
    }

    pub(crate) fn verdict(&self, mutant: &str) -> Option<Verdict> {
        self.state().verdicts.get(mutant).cloned()
    }

    pub(crate) fn add(&self, mutant: &str, verdict: Verdict) -> Result<(), Failure> {
        let mut state = self.state();
        if state.verdicts.get(mutant) == Some(&verdict) {
            return Ok(());
        }
        let line = Line { mutant: mutant.to_owned(), verdict: verdict.clone() };
        state.file.write_all(format!("{}\n", serde_json::to_string(&line)?).as_bytes())?;
        state.verdicts.insert(line.mutant, verdict);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_verdict_counts_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path()).expect("a journal");
        journal.add("a", Verdict::TimedOut).expect("written");
        journal.add("b", Verdict::Survived).expect("written");
        journal.add("a", Verdict::Caught("lib: x".to_owned())).expect("written");
        let again = Journal::open(folder.path()).expect("a journal");
        assert_eq!(Some(Verdict::Caught("lib: x".to_owned())), again.verdict("a"));
        assert_eq!(Some(Verdict::Survived), again.verdict("b"));
        assert_eq!(None, again.verdict("c"));
    }
}
