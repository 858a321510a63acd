//! All test programs of a build, and what they say about a mutant.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    groups::{Group, SKIPPED},
    program::{self, End, Program, UNIT_TESTS},
};

/// How long the tests of one program may take, if it is not known how long they usually take.
const LIMIT_OF_UNIT_TESTS: Duration = Duration::from_secs(60);
const LIMIT_OF_PROGRAMS: Duration = Duration::from_secs(200);

/// A test that takes at least this long alone is slow, unless its program is [fast](FAST). Slow tests
/// run only for the mutants that all other tests miss.
const SLOW_TEST: Duration = Duration::from_secs(2);

/// A failed test is repeated alone. If it passes then, all tests run again, at most this often.
const ROUNDS: u32 = 3;

/// The programs whose tests need milliseconds: most use no socket.
const FAST: [&str; 3] = [UNIT_TESTS, "in_memory", "config"];

/// How much effort a verdict is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Only the fast programs.
    Fast,
    /// The other programs of the group, without their slow tests.
    Usual,
    /// All tests of all programs, with three times as much time.
    Patient,
}

/// What became of a mutant.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Verdict {
    /// Caught by this test: program and name.
    Caught(String),
    Survived,
    /// No test runs this code.
    Unreached,
    TimedOut,
    Unviable,
}

/// A test that passes without a mutant.
#[derive(Debug)]
struct Test {
    name: String,
    takes: Duration,
    /// The mutants whose code it runs.
    reaches: HashSet<u32>,
}

/// All test programs of a build.
pub(crate) struct Suite {
    programs: Vec<(Program, Vec<Test>)>,
}

impl Suite {
    pub(crate) fn new(programs: Vec<Program>) -> Result<Self, Failure> {
        let mut found = Vec::new();
        for program in programs {
            let mut names = program.tests()?;
            names.retain(|test| !SKIPPED.iter().any(|skipped| test.ends_with(skipped)));
            let test = |name| Test { name, takes: Duration::ZERO, reaches: HashSet::new() };
            found.push((program, names.into_iter().map(test).collect()));
        }
        Ok(Self { programs: found })
    }

    /// Runs each test alone, and notes how long it takes and which mutants it reaches: first the
    /// tests of the fast programs, and in a second call all others.
    ///
    /// # Errors
    /// If a test fails each time.
    pub(crate) fn record(&mut self, effort: Effort, jobs: usize) -> Result<(), Failure> {
        let scratch = tempfile::tempdir()?;
        let is_fast = effort == Effort::Fast;
        for (program, tests) in self.programs.iter_mut().filter(|(it, _)| it.is_fast() == is_fast) {
            each(jobs, tests.iter_mut(), |test| {
                let file = scratch.path().join(test.name.replace(':', "_"));
                program::record_file(&file)?;
                let record = [("SCRAPEGATE_MUTANTS_REACHED", OsString::from(&file))];
                let mut passed = || -> Result<bool, Failure> {
                    let started = Instant::now();
                    let end = program.run(&[&test.name], &record, LIMIT_OF_PROGRAMS)?;
                    test.takes = started.elapsed();
                    Ok(end == End::Passed)
                };
                let mut rounds = 0;
                while !passed()? {
                    rounds += 1;
                    if rounds == ROUNDS {
                        return Err(format!(
                            "{}: {} fails without a mutant",
                            program.name, test.name
                        )
                        .into());
                    }
                }
                let reached = fs::read_to_string(&file)?;
                test.reaches = reached.lines().filter_map(|line| line.parse().ok()).collect();
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Runs the tests of `group` that reach the mutant of this number, with it. A program that does
    /// not end in time ends the search: with most such mutants, all other tests hang too.
    pub(crate) fn test(
        &self,
        group: &Group,
        mutant: u32,
        effort: Effort,
    ) -> Result<Verdict, Failure> {
        let mut verdict = Verdict::Unreached;
        for (program, tests) in self.of(group) {
            let tests: Vec<&Test> =
                tests.into_iter().filter(|test| test.reaches.contains(&mutant)).collect();
            if tests.is_empty() {
                continue;
            }
            verdict = Verdict::Survived;
            let tests: Vec<&Test> =
                tests.into_iter().filter(|test| effort.includes(program, test)).collect();
            if tests.is_empty() {
                continue;
            }
            // The tests run at the same time, so the sum is more than they usually take.
            let usual: Duration = tests.iter().map(|test| test.takes).sum();
            let limit = effort.patience() * (Duration::from_secs(10) + usual);
            let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
            match confirmed(program, &names, mutant, limit)? {
                End::Passed => {}
                End::TimedOut => return Ok(Verdict::TimedOut),
                End::Failed(test) => return Ok(Verdict::caught(program, test)),
            }
        }
        Ok(verdict)
    }

    /// Runs all tests of `group` with the mutant that is built into the programs.
    pub(crate) fn test_build(&self, group: &Group) -> Result<Verdict, Failure> {
        for (program, tests) in self.of(group) {
            let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
            match confirmed(program, &names, 0, limit_of(program))? {
                End::Passed => {}
                End::TimedOut => return Ok(Verdict::TimedOut),
                End::Failed(test) => return Ok(Verdict::caught(program, test)),
            }
        }
        Ok(Verdict::Survived)
    }

    /// The tests of `group`, in the order of its programs.
    fn of(&self, group: &Group) -> impl Iterator<Item = (&Program, Vec<&Test>)> {
        let of_program = move |(name, module): (&str, &str)| {
            let (program, tests) = self.programs.iter().find(|(it, _)| it.name == name)?;
            let is_wanted = |test: &&Test| match name {
                UNIT_TESTS => group.unit_tests.iter().any(|text| test.name.contains(text)),
                _ => test.name.starts_with(module),
            };
            Some((program, tests.iter().filter(is_wanted).collect()))
        };
        [(UNIT_TESTS, "")].into_iter().chain(group.programs()).filter_map(of_program)
    }
}

impl Effort {
    fn includes(self, program: &Program, test: &Test) -> bool {
        match self {
            Self::Fast => program.is_fast(),
            Self::Usual => !program.is_fast() && test.takes < SLOW_TEST,
            Self::Patient => true,
        }
    }

    /// The time for the tests, as a multiple of what is usually enough.
    fn patience(self) -> u32 {
        match self {
            Self::Fast | Self::Usual => 1,
            Self::Patient => 3,
        }
    }
}

impl Program {
    fn is_fast(&self) -> bool {
        FAST.contains(&self.name.as_str())
    }
}

impl Verdict {
    fn caught(program: &Program, test: Option<String>) -> Self {
        let test = test.unwrap_or_else(|| "the process died".to_owned());
        Self::Caught(format!("{}: {test}", program.name))
    }
}

fn limit_of(program: &Program) -> Duration {
    if program.name == UNIT_TESTS { LIMIT_OF_UNIT_TESTS } else { LIMIT_OF_PROGRAMS }
}

/// Runs the tests. A failure counts only if the test fails again alone, and passes without the
/// mutant in between: a busy machine can make tests fail.
fn confirmed(
    program: &Program,
    tests: &[&str],
    mutant: u32,
    limit: Duration,
) -> Result<End, Failure> {
    let number = [("SCRAPEGATE_MUTANT", OsString::from(mutant.to_string()))];
    for _ in 0..ROUNDS {
        let end = program.run(tests, &number, limit)?;
        let failed = match &end {
            End::Passed | End::TimedOut => return Ok(end),
            End::Failed(Some(test)) => &[test.as_str()],
            End::Failed(None) => tests,
        };
        let is_sound = mutant == 0 || program.run(failed, &[], limit)? == End::Passed;
        if is_sound && matches!(program.run(failed, &number, limit)?, End::Failed(_)) {
            return Ok(end);
        }
    }
    Ok(End::Passed)
}

/// Calls `work` for each of `items` on `jobs` threads. Stops at the first error.
pub(crate) fn each<T: Send>(
    jobs: usize,
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let items = Mutex::new(items.fuse());
    let next = || items.lock().ok().and_then(|mut items| items.next());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(item) = next() {
                        if let Err(error) = work(item) {
                            // The other workers find nothing more.
                            while next().is_some() {}
                            return Err(error);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })
}
