//! All mutants of some groups, one after the other.

use crate::{
    Failure,
    groups::Group,
    journal::Journal,
    mutant::Mutant,
    program::{self, UNIT_TESTS},
    suite::{Effort, Suite, Verdict, each},
    tree::{Build, Tree, number},
};

/// What is tested, and where the verdicts go.
pub(crate) struct Campaign {
    pub(crate) tree: Tree,
    pub(crate) mutants: Vec<Mutant>,
    pub(crate) journal: Journal,
    /// Mutants tested at a time.
    pub(crate) jobs: usize,
}

impl Campaign {
    /// Tests all mutants that have no verdict yet.
    pub(crate) fn run(&self, groups: &[&Group]) -> Result<(), Failure> {
        let builds = self.tree.switch_all(&self.mutants)?;
        let count = |wanted| builds.iter().filter(|build| **build == wanted).count();
        println!(
            "{} mutants: {} in one build, {} alone, {} do not compile",
            self.mutants.len(),
            count(Build::Shared),
            count(Build::Alone),
            count(Build::Unviable)
        );
        for (mutant, build) in self.mutants.iter().zip(&builds) {
            if *build == Build::Unviable {
                self.journal.add(&mutant.name, Verdict::Unviable)?;
            }
        }
        let mut names: Vec<&str> =
            groups.iter().flat_map(|group| group.programs()).map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        names.push(UNIT_TESTS);
        let programs =
            program::build(&self.tree.root, &names)?.ok_or("the tests do not compile")?;
        let mut suite = Suite::new(programs)?;
        // Most mutants are caught by the fast tests, so these come first for all groups.
        for effort in [Effort::Fast, Effort::Usual, Effort::Patient] {
            if effort != Effort::Patient {
                suite.record(effort, self.jobs)?;
            }
            for group in groups {
                self.test_switched(group, &builds, &suite, effort)?;
            }
        }
        for group in groups {
            self.test_alone(group, &builds)?;
        }
        self.tree.restore()
    }

    /// The mutants of a group, with their indexes.
    pub(crate) fn of(&self, group: &Group) -> impl Iterator<Item = (usize, &Mutant)> {
        self.mutants.iter().enumerate().filter(|(_, mutant)| mutant.group == group.name)
    }

    /// Tests the mutants of a group that are in the shared build and have no final verdict.
    fn test_switched(
        &self,
        group: &Group,
        builds: &[Build],
        suite: &Suite,
        effort: Effort,
    ) -> Result<(), Failure> {
        let open = self.of(group).filter(|(index, mutant)| {
            let is_open = match self.journal.verdict(&mutant.name) {
                None => true,
                // What timed out may have met a busy machine, and the slow tests are still to run.
                Some(Verdict::TimedOut | Verdict::Survived) => effort == Effort::Patient,
                Some(Verdict::Caught(_) | Verdict::Unreached | Verdict::Unviable) => false,
            };
            is_open && builds[*index] == Build::Shared
        });
        each(self.jobs, open, |(index, mutant)| {
            let verdict = suite.test(group, number(index), effort)?;
            if effort == Effort::Fast && !matches!(verdict, Verdict::Caught(_) | Verdict::TimedOut)
            {
                return Ok(());
            }
            println!("{}: {verdict:?}", mutant.name);
            self.journal.add(&mutant.name, verdict)
        })
    }

    /// Tests the mutants of a group that the switch cannot express.
    fn test_alone(&self, group: &Group, builds: &[Build]) -> Result<(), Failure> {
        let all = self.of(group).filter(|(index, _)| builds[*index] == Build::Alone);
        for (_, mutant) in all.filter(|(_, mutant)| self.journal.verdict(&mutant.name).is_none()) {
            self.tree.apply(mutant)?;
            let verdict = self.verdict_of_tree(group)?;
            println!("{}: {verdict:?}", mutant.name);
            self.journal.add(&mutant.name, verdict)?;
        }
        Ok(())
    }

    /// Builds and runs one test program after the other.
    fn verdict_of_tree(&self, group: &Group) -> Result<Verdict, Failure> {
        for name in [UNIT_TESTS].into_iter().chain(group.programs().map(|(name, _)| name)) {
            let Some(programs) = program::build(&self.tree.root, &[name])? else {
                return Ok(Verdict::Unviable);
            };
            match Suite::new(programs)?.test_build(group)? {
                verdict @ (Verdict::Caught(_) | Verdict::TimedOut) => return Ok(verdict),
                Verdict::Survived | Verdict::Unreached | Verdict::Unviable => {}
            }
        }
        Ok(Verdict::Survived)
    }
}
