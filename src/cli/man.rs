//! `scrapegate man`: prints the manual page. Commands and options come from the text of `--help`.

use std::io::{self, Write};

use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};

use super::exit;
use crate::config::{agent_folder, own_folder};

const SYNOPSIS: [&str; 3] = [
    "scrapegate [run] [-c FILE] [--exporters FILE] [--listen ADDR:PORT] [-v] [-d]",
    "scrapegate COMMAND [OPTIONS]",
    "scrapegate --help | --version",
];

const DESCRIPTION: [&str; 2] = [
    "scrapegate serves all Prometheus exporters of a host through one port, over HTTPS with client \
     certificates. A scraper requests `https://HOST:3333/prometheus?exporter=NAME`. The exporter's \
     answer streams through within one deadline, and a truncated scrape never looks complete.",
    "Without a command, scrapegate runs the proxy. `scrapegate.ini`(5) describes its two \
     configuration files.",
];

/// What to do, and the command for it.
const EXAMPLES: [(&str, &str); 7] = [
    ("Try the proxy without any configuration:", "scrapegate demo"),
    ("Check all files before a start or a reload:", "scrapegate check"),
    (
        "Create a CA and certificates:",
        "scrapegate certs --out /etc/scrapegate/tls --host node1.example.org",
    ),
    ("Measure an exporter:", "scrapegate probe node_exporter --repeat 5"),
    ("Check an exporter as a monitoring plugin:", "scrapegate probe node_exporter --plugin"),
    (
        "Scrape through the proxy:",
        "scrapegate get node_exporter --url https://node1.example.org:3333 \\\n    \
         --cert client.crt --key client.key --cacert ca.crt",
    ),
    ("Print a configuration for Prometheus:", "scrapegate sd --format scrape_config"),
];

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
     `info,scrapegate::service=debug`, in the syntax of EnvFilter of tracing_subscriber",
)];

/// Prints the manual page of `command` and its subcommands, in roff.
///
/// # Errors
/// If `out` cannot be written.
pub(super) fn run(command: &clap::Command, out: &mut dyn Write) -> io::Result<()> {
    // Not clap_mangen's: without a date, it shifts the version into the place of the date. `packaging/deb`
    // fills in the date.
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, ".TH SCRAPEGATE 1 \"\" \"scrapegate {version}\" \"scrapegate\"")?;
    Man::new(command.clone()).render_name_section(out)?;
    let mut head = Roff::new();
    head.control("SH", ["SYNOPSIS"]).control("nf", []);
    for line in SYNOPSIS {
        head.text([roman(line)]);
    }
    head.control("fi", []).control("SH", ["DESCRIPTION"]);
    for (at, paragraph) in DESCRIPTION.into_iter().enumerate() {
        if at > 0 {
            head.control("PP", []);
        }
        head.text(words(paragraph));
    }
    head.to_writer(out)?;
    commands(command, out)?;
    let mut rest = Roff::new();
    files(&mut rest);
    section(&mut rest, "EXIT STATUS", exit::MEANINGS.map(|(code, text)| (code.to_string(), text)));
    rest.control("PP", []);
    rest.text(words(
        "`probe` has the exit codes of a monitoring plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
    ));
    section(&mut rest, "SIGNALS", SIGNALS.map(|(signal, text)| (signal.to_owned(), text)));
    section(&mut rest, "ENVIRONMENT", ENVIRONMENT.map(|(name, text)| (name.to_owned(), text)));
    examples(&mut rest);
    rest.control("SH", ["SEE ALSO"]);
    rest.text(words("`scrapegate.ini`(5), `prometheus`(1), `promtool`(1), `systemd`(1)"));
    rest.control("PP", []);
    rest.text(words("The documentation is in /usr/share/doc/scrapegate/docs."));
    rest.to_writer(out)?;
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
        let lines: Vec<&str> = options.lines().filter(|line| !line.starts_with(".SH")).collect();
        for (at, line) in lines.iter().enumerate() {
            // An empty line is a paragraph, next to which a line break does nothing.
            let is_next_to_paragraph = lines.get(at + 1).is_some_and(|next| next.is_empty())
                || at
                    .checked_sub(1)
                    .and_then(|last| lines.get(last))
                    .is_some_and(|it| it.is_empty());
            if *line != ".br" || !is_next_to_paragraph {
                writeln!(out, "{}", with_bold_code(line))?;
            }
        }
    }
    Ok(())
}

/// A line of roff with each part between backticks in bold.
fn with_bold_code(line: &str) -> String {
    let mut parts = line.split('`');
    let mut bold = parts.next().unwrap_or_default().to_owned();
    for (at, part) in parts.enumerate() {
        bold.push_str(if at % 2 == 0 { "\\fB" } else { "\\fR" });
        bold.push_str(part);
    }
    bold
}

fn files(page: &mut Roff) {
    section(page, "FILES", FILES.map(|(name, text)| (name.to_owned(), text)));
    page.control("PP", []);
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
}

fn examples(page: &mut Roff) {
    page.control("SH", ["EXAMPLES"]);
    for (at, (purpose, command)) in EXAMPLES.into_iter().enumerate() {
        if at > 0 {
            page.control("PP", []);
        }
        page.text([roman(purpose)]).control("PP", []).control("RS", ["4"]).control("nf", []);
        page.text([roman(command)]).control("fi", []).control("RE", []);
    }
}

/// Text with each part between backticks in bold.
fn words(text: &str) -> Vec<Inline> {
    let piece = |(at, piece): (usize, &str)| if at % 2 == 0 { roman(piece) } else { bold(piece) };
    text.split('`').enumerate().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_a_command_line_that_parses() {
        for (_, example) in EXAMPLES {
            let words = example.split_whitespace().filter(|word| *word != "\\");
            let parsed = crate::cli::command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{example}: {parsed:?}");
        }
    }
}
