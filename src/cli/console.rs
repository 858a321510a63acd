//! Messages of commands on standard error.

use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long [`complain_briefly`] waits for standard error.
const COMPLAINT: Duration = Duration::from_secs(1);

/// Like [`complain`], but waits at most [`COMPLAINT`]. Nobody may be reading standard error, and
/// the proxy must start and stop all the same. The log never waits, but it has not started yet.
pub(super) fn complain_briefly(message: impl std::fmt::Display) {
    let text = format!("scrapegate: {message}\n");
    let (done, is_done) = mpsc::channel::<()>();
    let again = text.clone();
    let written = thread::Builder::new().name("complaint".to_owned()).spawn(move || {
        let _ = io::stderr().write_all(text.as_bytes());
        drop(done);
    });
    match written {
        // Returns when the thread drops its sender, or after the time limit.
        Ok(_) => drop(is_done.recv_timeout(COMPLAINT)),
        // The system refuses a thread. Print the message here, although this may block.
        Err(_) => drop(io::stderr().write_all(again.as_bytes())),
    }
}

/// Prints a message to standard error. Ignores a closed pipe.
pub(super) fn complain(message: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "scrapegate: {message}");
}
