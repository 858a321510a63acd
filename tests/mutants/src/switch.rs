//! The switch of the mutants. `scrapegate-mutants` copies this file into the crate that it tests.
//!
//! `SCRAPEGATE_MUTANT` is the number of the active mutant; without it none is active. Child
//! processes inherit it. `SCRAPEGATE_MUTANTS_REACHED` is a file to which each process appends the
//! numbers of the mutants whose code it reaches, one a line, each once.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// More than there are mutants.
pub(crate) const MAX: usize = 1 << 14;

static REACHED: [AtomicBool; MAX] = [const { AtomicBool::new(false) }; MAX];

/// Whether `mutant` is the active one.
pub(crate) fn is(mutant: u32) -> bool {
    active(&[mutant]) == mutant
}

/// Returns the active mutant if it is one of `mutants`, otherwise 0.
pub(crate) fn active(mutants: &[u32]) -> u32 {
    static ACTIVE: OnceLock<u32> = OnceLock::new();
    static RECORD: OnceLock<Option<OsString>> = OnceLock::new();
    if let Some(record) = RECORD.get_or_init(|| env::var_os("SCRAPEGATE_MUTANTS_REACHED")) {
        for &mutant in mutants {
            let reached = &REACHED[mutant as usize];
            // If the file cannot be opened, for example without a free descriptor, the next visit
            // tries again.
            if !reached.load(Ordering::Relaxed) && append(record, mutant).is_ok() {
                reached.store(true, Ordering::Relaxed);
            }
        }
    }
    let number = || env::var("SCRAPEGATE_MUTANT").ok().and_then(|text| text.parse().ok());
    let active = *ACTIVE.get_or_init(|| number().unwrap_or(0));
    if mutants.contains(&active) { active } else { 0 }
}

/// One `write`, so that the lines of several processes do not mix.
fn append(record: &OsString, mutant: u32) -> io::Result<()> {
    File::options().append(true).open(record)?.write_all(format!("{mutant}\n").as_bytes())
}
