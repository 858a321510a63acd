//! `scrapegate completions`: a script for the shell.

use std::io::{self, Write};

use clap_complete::Shell;

/// For which shell.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When it cannot be written.
pub(super) fn run(args: &Args, mut command: clap::Command, out: &mut dyn Write) -> io::Result<()> {
    // `generate` panics where it cannot write, as to a closed pipe.
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    out.write_all(&script)?;
    out.flush()
}
