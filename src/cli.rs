//! The command line: arguments, one module a subcommand, exit codes.

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

use crate::{config::Sources, scrape::Chain, telemetry::Verbosity};

/// Exit codes (after sysexits.h).
mod exit {
    /// What was asked for could not be done; `check` found mistakes.
    pub(super) const MISTAKES: u8 = 1;
    /// The command line is wrong.
    pub(super) const USAGE: u8 = 2;
    /// An internal error.
    pub(super) const INTERNAL: u8 = 70;
    /// The system refuses what is needed, such as the address to listen on.
    pub(super) const SYSTEM: u8 = 71;
    /// The configuration is wrong.
    pub(super) const CONFIGURATION: u8 = 78;
    /// What the manual page says about them, and docs/reference/command-line.md.
    pub(super) const MEANINGS: [(u8, &str); 6] = [
        (0, "fine; for `run`: ended by SIGTERM or SIGINT"),
        (
            MISTAKES,
            "`check` found mistakes; `get` has no complete body; `certs` or `demo` could not do what \
             they were asked",
        ),
        (USAGE, "wrong usage"),
        (INTERNAL, "internal error"),
        (
            SYSTEM,
            "the system refuses what is needed, such as the address to listen on, or room for what \
             is printed; or the certificate in `certfile` is not valid yet, also after 10 s: when the \
             clock is set, another start succeeds",
        ),
        (CONFIGURATION, "`run`, `sd`, `import`: the files have mistakes, nothing was done"),
    ];
}

/// A streaming mutual-TLS proxy in front of Prometheus exporters.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy (the default).
    Run(run::RunArgs),
    /// Read all files and print every mistake, else a table of the exporters. Starts nothing.
    Check(check::Args),
    /// Show the proxy at work: throw-away certificates, a synthetic exporter, one scrape over
    /// mutual TLS with its figures, and the curl lines to try. Leaves nothing behind.
    Demo(demo::Args),
    /// Make a CA, a server pair and a client pair.
    Certs(certs::Args),
    /// Scrape an exporter by itself: how long it takes, what its answer is made of, whether it got
    /// slower. Ends as a monitoring plugin does, with 0, 1, 2 or 3.
    Probe(probe::Args),
    /// Scrape through a running proxy, as Prometheus does. Exit code 0 only for a complete body.
    Get(get::Args),
    /// Print discovery or scrape configuration for this host.
    Sd(sd::Args),
    /// Convert the configuration of an exporter_exporter to a prometheus_exporters.ini.
    Import(import::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
    /// Print the manual page.
    Man,
}

/// Which files to read.
#[derive(Clone, Debug, Args)]
struct PathArgs {
    /// config.ini [default: scrapegate's own, else the agent's: on Linux the first that exists of
    /// /etc/scrapegate/config.ini and /etc/openitcockpit-agent/config.ini]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The exporters file, in place of `[prometheus] exporters`
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
    /// Where to listen, in place of `[default] address` and `port`; port 0 takes a free one
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
    /// Log more: why connections ended
    #[arg(short, long)]
    verbose: bool,
    /// Log everything, also what the libraries say
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

/// The command line as clap has it: what parses, without doing what it says.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the process was started with.
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

/// A runtime on this thread alone. One of several threads panics where the system refuses a thread.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// The exit code of a command that says itself what it did, and here what it could not.
fn done<E: std::error::Error>(outcome: Result<(), E>, code: impl Fn(&E) -> u8) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(Chain(&error));
            code(&error).into()
        }
    }
}

/// The exit code of a command that does nothing but print.
fn printed(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        // Whoever pipes into `head` has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("cannot write: {error}"));
            exit::SYSTEM.into()
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// How long the proxy may wait for a reader of standard error before its log has started.
const COMPLAINT: Duration = Duration::from_secs(1);

/// The same as [`complain`], for at most a second: the start and the end of the proxy must not wait
/// for a standard error that nobody reads. The log, which never waits, has not started yet.
fn complain_briefly(message: impl std::fmt::Display) {
    let text = format!("scrapegate: {message}\n");
    let (done, is_done) = mpsc::channel::<()>();
    let again = text.clone();
    let written = thread::Builder::new().name("complaint".to_owned()).spawn(move || {
        let _ = io::stderr().write_all(text.as_bytes());
        drop(done);
    });
    match written {
        // It is an error in any case: nothing is sent.
        Ok(_) => drop(is_done.recv_timeout(COMPLAINT)),
        // No thread to be had, which is worth more than a message that might wait.
        Err(_) => drop(io::stderr().write_all(again.as_bytes())),
    }
}

/// Says on standard error why there is nothing to do. A broken pipe there is nobody's loss.
fn complain(message: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "scrapegate: {message}");
}
