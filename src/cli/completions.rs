//! `scrapegate completions`: prints a shell completion script.

use std::io::{self, Write};

use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Shell to complete for. Save the output where this shell looks for completion scripts
    shell: Shell,
}

/// Prints the completion script for the shell in `args`.
///
/// # Errors
/// If `out` cannot be written.
pub(super) fn run(args: &Args, mut command: clap::Command, out: &mut dyn Write) -> io::Result<()> {
    // `generate` panics if it cannot write, for example to a closed pipe.
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    out.write_all(&script)?;
    out.flush()
}
