//! The command line. The library does the work; this room parses arguments and prints results.
//!
//! - One file for each subcommand: `run`, `check`, `demo`, `certs`, `probe`, `get`,
//!   `sd`, `import`, `completions` and `man`. Large ones have a folder with their parts.
//! - For several subcommands: `args` (which files to read), `exit` (exit codes), `console` (messages
//!   on standard error), `figures` (numbers and tables), `runtime`, `stop` (signals), `listen` and
//!   `user` (values of options).
//! - `client`: the HTTP client of `demo` and `get`. `throwaway`: the temporary proxy of `demo` and
//!   `probe`.

mod args;
mod certs;
mod check;
mod client;
mod completions;
mod console;
mod demo;
mod exit;
mod figures;
mod get;
mod import;
mod listen;
mod man;
mod probe;
mod run;
mod runtime;
mod sd;
mod stop;
mod throwaway;
mod user;

use std::{io, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

use self::console::complain;
use crate::common::error::Chain;

#[derive(Debug, Parser)]
#[command(version, about, after_help = HELP_FOOTER, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArgs,
}

/// The last lines of `scrapegate --help`.
const HELP_FOOTER: &str = "\
Without a command, scrapegate runs the proxy. Try `scrapegate demo` first. Run `scrapegate check`
before you start the proxy or reload its files.";

const CERTS_EXAMPLE: &str = "\
Example:
  scrapegate certs --out /etc/scrapegate/tls --host node1.example.org localhost";

const PROBE_EXAMPLES: &str = "\
Examples:
  scrapegate probe node_exporter
  scrapegate probe node_exporter --repeat 5 --save before.json
  scrapegate probe node_exporter --repeat 5 --compare before.json";

const GET_EXAMPLE: &str = "\
Example:
  scrapegate get node_exporter --url https://node1.example.org:3333 --cacert ca.crt \\
      --cert client.crt --key client.key --output metrics.txt";

const IMPORT_EXAMPLE: &str = "\
Example:
  scrapegate import /etc/exporter_exporter.yaml > prometheus_exporters.ini";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy (the default).
    ///
    /// Reads both configuration files and all files that they name, then listens and serves until
    /// SIGTERM or SIGINT. SIGHUP reloads all files. Logs go to standard error.
    Run(run::RunArgs),
    /// Check all files, then list the exporters and the certificates.
    ///
    /// Prints every error and warning with file, line, section and key. If no error was found,
    /// prints the exporters and the expiry of each certificate. Opens no port and connects to
    /// nothing. Exit code: 0 without errors, 1 with errors.
    Check(check::Args),
    /// Try the proxy with a synthetic exporter and temporary certificates.
    ///
    /// Creates certificates in a temporary folder, starts an exporter and the proxy, scrapes once
    /// over mutual TLS, and prints the figures and some curl commands to try. Runs until Ctrl-C,
    /// then removes all its files.
    Demo(demo::Args),
    /// Create a CA, a server certificate and a client certificate, with their keys.
    ///
    /// For hosts without a PKI. The CA is valid for 10 years, the other certificates for 825 days.
    /// Keys are readable only by their owner (mode 0600).
    #[command(after_long_help = CERTS_EXAMPLE)]
    Certs(certs::Args),
    /// Scrape one exporter directly, and measure and check its answer.
    ///
    /// Uses the exporter's settings in the exporters file. Needs no running proxy and none of the
    /// proxy's certificates. Works as a monitoring plugin: the last line has the state and the
    /// performance data. Exit code: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    #[command(after_long_help = PROBE_EXAMPLES)]
    Probe(probe::Args),
    /// Scrape one exporter through a running proxy, as Prometheus does.
    ///
    /// Writes the body to standard output or to a file, and the figures to standard error. If the
    /// scrape fails, prints which side to look at and a hint. Exit code: 0 if the body is complete,
    /// 1 if not.
    #[command(after_long_help = GET_EXAMPLE)]
    Get(get::Args),
    /// Print service discovery or a scrape configuration for this host.
    Sd(sd::Args),
    /// Convert an exporter_exporter configuration to prometheus_exporters.ini.
    ///
    /// Prints the INI file to standard output. Prints each module and key that it cannot convert,
    /// with its line, to standard error. Exit code: 0 if all modules were converted, 1 if a module
    /// was skipped, 78 if the file cannot be read.
    #[command(after_long_help = IMPORT_EXAMPLE)]
    Import(import::Args),
    /// Print a shell completion script.
    Completions(completions::Args),
    /// Print the manual page, in roff.
    Man,
}

/// The command line as a [`clap::Command`], to parse arguments or print help without running it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command given by the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = io::stdout();
    match cli.command {
        None => run::run(&cli.run),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Check(args)) => check::check(&args, &mut out),
        Some(Command::Demo(args)) => match runtime::current_thread() {
            Ok(runtime) => {
                done(runtime.block_on(demo::run(&args, &mut out)), demo::Error::exit_code)
            }
            Err(error) => {
                complain(format_args!("cannot start the runtime: {error}"));
                exit::SYSTEM.into()
            }
        },
        Some(Command::Certs(args)) => done(certs::run(&args, &mut out), certs::Error::exit_code),
        Some(Command::Probe(args)) => probe::run(&args, &mut out),
        Some(Command::Get(args)) => get::run(&args),
        Some(Command::Sd(args)) => done(sd::run(&args, &mut out), sd::Error::exit_code),
        Some(Command::Import(args)) => done(import::run(&args, &mut out), import::Error::exit_code),
        Some(Command::Completions(args)) => printed(completions::run(&args, command(), &mut out)),
        Some(Command::Man) => printed(man::run(&command(), &mut out)),
    }
}

/// The exit code of a command. Prints the error, if there is one.
fn done<E: std::error::Error>(outcome: Result<(), E>, code: impl Fn(&E) -> u8) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(Chain(&error));
            code(&error).into()
        }
    }
}

/// The exit code of a command that only prints.
fn printed(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        // With a pipe into `head`, a closed output is not an error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("cannot write to standard output: {error}"));
            exit::SYSTEM.into()
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}
