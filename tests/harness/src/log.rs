//! The output of a child process, kept so that tests can wait for lines.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use crate::PATIENCE;

/// The lines of output so far.
#[derive(Clone)]
pub struct LineLog(Arc<Shared>);

struct Shared {
    name: String,
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl LineLog {
    /// Reads `output` to its end in a thread of its own, so that the child never blocks on it.
    pub fn follow(name: &str, output: impl Read + Send + 'static) -> Self {
        let log = Self(Arc::new(Shared {
            name: name.to_owned(),
            lines: Mutex::default(),
            changed: Condvar::new(),
        }));
        let writer = log.clone();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while matches!(output.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                writer.lock().lines.push(text);
                writer.0.changed.notify_all();
                line.clear();
            }
            writer.lock().ended = true;
            writer.0.changed.notify_all();
        });
        log
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Waits for a line, past or future, for which `find` returns a value.
    ///
    /// # Panics
    /// With the whole log, if the output ends without such a line or after [`PATIENCE`].
    pub fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        let mut state = self.lock();
        loop {
            if let Some(found) = state.lines[seen..].iter().find_map(|line| find(line)) {
                return found;
            }
            seen = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let why = if state.ended { "ended" } else { "was silent" };
                let (name, log) = (&self.0.name, state.lines.join("\n"));
                drop(state);
                panic!("{name} {why} without {what}; its output:\n{log}");
            }
            state =
                self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the child has closed its output, which happens at the latest when it exits.
    pub fn wait_for_end(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        while !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (name, log) = (&self.0.name, state.lines.join("\n"));
                drop(state);
                panic!("{name} does not end; its output:\n{log}");
            }
            state =
                self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
