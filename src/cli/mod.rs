//! The command line: arguments, one module for each subcommand, exit codes.

mod certs;
mod check;
mod client;
mod completions;
mod demo;
mod figures;
mod get;
mod import;
mod listen;
mod man;
mod probe;
mod run;
mod sd;
mod stop;
mod throwaway;
mod user;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::{common::error::Chain, config::Sources, service::telemetry::Verbosity};

/// Exit codes (after sysexits.h).
mod exit {
    /// The command could not do its work, or `check` found errors.
    pub(super) const MISTAKES: u8 = 1;
    /// The command line is wrong.
    pub(super) const USAGE: u8 = 2;
    /// An internal error.
    pub(super) const INTERNAL: u8 = 70;
    /// The operating system refuses a resource, such as the address to listen on.
    pub(super) const SYSTEM: u8 = 71;
    /// The configuration has errors.
    pub(super) const CONFIGURATION: u8 = 78;
    /// What each code means, for the manual page and docs/reference/command-line.md.
    pub(super) const MEANINGS: [(u8, &str); 6] = [
        (0, "success; `run`: stopped by SIGTERM or SIGINT"),
        (
            MISTAKES,
            "`check` found errors; `get` received no complete body; `import` skipped a module; `certs` \
             or `demo` failed",
        ),
        (USAGE, "wrong command line"),
        (INTERNAL, "internal error"),
        (
            SYSTEM,
            "the operating system refused a resource, for example the listen address, a thread, or \
             the output; or the certificate in `certfile` is still not valid after a wait of 10 s. A \
             later start can succeed, for example once the clock is set",
        ),
        (
            CONFIGURATION,
            "`run`, `sd`, `import`: the files have errors; nothing was started or printed",
        ),
    ];
}

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

/// Which files to read.
#[derive(Clone, Debug, Args)]
struct PathArgs {
    /// Path of config.ini [default on Linux: /etc/scrapegate/config.ini or, if that does not exist,
    /// /etc/openitcockpit-agent/config.ini]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Path of the exporters file; overrides `[prometheus] exporters` [default:
    /// prometheus_exporters.ini in the folder of config.ini]
    #[arg(long, value_name = "FILE")]
    exporters: Option<PathBuf>,
}

impl PathArgs {
    fn sources(&self) -> Sources {
        Sources { config: self.config.clone(), exporters: self.exporters.clone(), listen: None }
            .settled()
    }
}

/// Which files to read, and where to listen.
#[derive(Clone, Debug, Args)]
struct FileArgs {
    #[command(flatten)]
    paths: PathArgs,
    /// Address and port of the proxy; overrides `[default] address` and `port`. With port 0, the
    /// system picks a free port
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen::address)]
    listen: Option<SocketAddr>,
}

impl FileArgs {
    fn sources(&self) -> Sources {
        Sources { listen: self.listen, ..self.paths.sources() }
    }
}

/// How much to log.
#[derive(Clone, Copy, Debug, Args)]
struct VerbosityArgs {
    /// Also log why connections ended
    #[arg(short, long)]
    verbose: bool,
    /// Log everything, including debug messages of libraries
    #[arg(short, long)]
    debug: bool,
}

impl VerbosityArgs {
    fn verbosity(self) -> Verbosity {
        match self {
            Self { debug: true, .. } => Verbosity::Debug,
            Self { verbose: true, .. } => Verbosity::Verbose,
            Self { .. } => Verbosity::Normal,
        }
    }
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
        Some(Command::Demo(args)) => match runtime() {
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

/// A runtime that uses only this thread. A multi-threaded runtime panics if the system refuses a
/// thread.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
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

/// How long [`complain_briefly`] waits for standard error.
const COMPLAINT: Duration = Duration::from_secs(1);

/// Like [`complain`], but waits at most [`COMPLAINT`]. Nobody may be reading standard error, and
/// the proxy must start and stop all the same. The log never waits, but it has not started yet.
fn complain_briefly(message: impl std::fmt::Display) {
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
fn complain(message: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "scrapegate: {message}");
}
