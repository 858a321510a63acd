//! `scrapegate man`: the manual page, made of the texts of `--help` and of what no option says.

use std::io::{self, Write};

use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};

use super::exit;
use crate::config::{agent_folder, own_folder};

/// What is read and written where.
const FILES: [(&str, &str); 3] = [
    ("config.ini", "the agent's file, with a section `[proxy]` that the agent does not look at"),
    (
        "prometheus_exporters.ini",
        "a section for each exporter; `[prometheus] exporters` may name another",
    ),
    (
        "agent.crt, agent.key, server_ca.crt",
        "certificate, key and clients' CA with `try-autossl = True`",
    ),
];

/// What `run` does when it is told to.
const SIGNALS: [(&str, &str); 2] = [
    ("SIGHUP", "all files are read again, and taken over if nothing is wrong with any"),
    (
        "SIGTERM, SIGINT",
        "the port is closed, and scrapes in flight get `drain-timeout` to end; the second of these \
         signals ends them at once",
    ),
];

const ENVIRONMENT: [(&str, &str); 1] = [(
    "SCRAPEGATE_LOG",
    "what to log, in place of `-v` and `-d`: a level such as `warn`, or one for each module, as \
     tracing_subscriber's EnvFilter has them",
)];

/// Prints the page.
///
/// # Errors
/// When it cannot be written.
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
        "`probe` ends as monitoring plugins do: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
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
        // Its own heading would end the section.
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
        "Without `--config`, `config.ini` is the first that exists of {own}/config.ini and \
         {agents}/config.ini. The `agent.*` files are in {agents} unless `autossl-folder` names \
         another folder.",
        own = own_folder().display(),
        agents = agent_folder().display(),
    )));
}

/// A heading, and below it each term with what it means.
fn section<const N: usize>(page: &mut Roff, heading: &str, entries: [(String, &str); N]) {
    page.control("SH", [heading]);
    for (term, meaning) in entries {
        page.control("TP", []).text([bold(term)]).text(words(meaning));
    }
    page.control("PP", []);
}

/// Text with what stands between backticks in bold.
fn words(text: &str) -> Vec<Inline> {
    let piece = |(at, piece): (usize, &str)| if at % 2 == 0 { roman(piece) } else { bold(piece) };
    text.split('`').enumerate().map(piece).collect()
}
