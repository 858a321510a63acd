//! `scrapegate man`: prints the manual page. Commands and options come from the text of `--help`.

use std::io::{self, Write};

use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};

use super::exit;
use crate::config::{agent_folder, own_folder};

const FILES: [(&str, &str); 3] = [
    (
        "config.ini",
        "the main configuration, in the format of the openITCOCKPIT agent's config.ini; the agent \
         ignores the section `[proxy]`",
    ),
    (
        "prometheus_exporters.ini",
        "one section for each exporter; `[prometheus] exporters` can name another file",
    ),
    (
        "agent.crt, agent.key, server_ca.crt",
        "with `try-autossl = True`: certificate and key of the proxy, and CA of the clients",
    ),
];

const SIGNALS: [(&str, &str); 2] = [
    ("SIGHUP", "reload all files; if one of them has an error, keep the current configuration"),
    (
        "SIGTERM, SIGINT",
        "close the port and wait up to `drain-timeout` for scrapes in flight; on a second signal, \
         abort them",
    ),
];

const ENVIRONMENT: [(&str, &str); 1] = [(
    "SCRAPEGATE_LOG",
    "log levels; overrides `-v` and `-d`. A level such as `warn`, or levels for modules such as \
     `info,scrapegate::tls=debug`, in the syntax of EnvFilter of tracing_subscriber",
)];

/// Prints the page.
///
/// # Errors
/// If `out` cannot be written.
pub(super) fn run(command: &clap::Command, out: &mut dyn Write) -> io::Result<()> {
    let man = Man::new(command.clone()).manual("scrapegate");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    commands(command, out)?;
    let mut rest = Roff::new();
    files(&mut rest);
    section(&mut rest, "EXIT STATUS", exit::MEANINGS.map(|(code, text)| (code.to_string(), text)));
    rest.text(words(
        "`probe` has the exit codes of a monitoring plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
    ));
    section(&mut rest, "SIGNALS", SIGNALS.map(|(signal, text)| (signal.to_owned(), text)));
    section(&mut rest, "ENVIRONMENT", ENVIRONMENT.map(|(name, text)| (name.to_owned(), text)));
    rest.to_writer(out)?;
    man.render_version_section(out)?;
    out.flush()
}

/// A subsection for each command, with its options.
fn commands(command: &clap::Command, out: &mut dyn Write) -> io::Result<()> {
    Roff::new().control("SH", ["COMMANDS"]).to_writer(out)?;
    for sub in command.get_subcommands() {
        let name = format!("scrapegate {}", sub.get_name());
        let about = sub.get_long_about().or(sub.get_about());
        let mut head = Roff::new();
        head.control("SS", [name.as_str()]);
        head.text(words(&about.map(ToString::to_string).unwrap_or_default()));
        head.to_writer(out)?;
        let mut options = Vec::new();
        Man::new(sub.clone().disable_help_flag(true)).render_options_section(&mut options)?;
        // Drop the heading OPTIONS, which would end the section COMMANDS.
        let options = String::from_utf8_lossy(&options);
        let options = options.lines().filter(|line| !line.starts_with(".SH"));
        for line in options {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn files(page: &mut Roff) {
    section(page, "FILES", FILES.map(|(name, text)| (name.to_owned(), text)));
    page.text(words(&format!(
        "Without `--config`, scrapegate reads {own}/config.ini or, if that does not exist, \
         {agents}/config.ini. The `agent.*` files are in {agents}, unless `autossl-folder` names \
         another folder.",
        own = own_folder().display(),
        agents = agent_folder().display(),
    )));
}

/// A section: a heading, then each term with its meaning.
fn section<const N: usize>(page: &mut Roff, heading: &str, entries: [(String, &str); N]) {
    page.control("SH", [heading]);
    for (term, meaning) in entries {
        page.control("TP", []).text([bold(term)]).text(words(meaning));
    }
    page.control("PP", []);
}

/// Text with each part between backticks in bold.
fn words(text: &str) -> Vec<Inline> {
    let piece = |(at, piece): (usize, &str)| if at % 2 == 0 { roman(piece) } else { bold(piece) };
    text.split('`').enumerate().map(piece).collect()
}
