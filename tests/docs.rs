//! The docs match the code: their examples load, and their tables list exactly the keys, statuses,
//! outcome labels, options and metrics that the code has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Output},
};

use scrapegate::{
    common::error::{Abort, Blame, Refusal, Scope},
    upstream::{Connector, Stream},
};
use scrapegate_harness::in_memory::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// The text of a file in this repository.
fn repository(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn scrapegate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scrapegate"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("the binary runs")
}

/// The text between `start` and the next `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start:?}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end:?} after {start:?}")).0
}

/// The string literals of Rust source without escaped quotes.
fn literals(source: &str) -> Vec<&str> {
    source.split('"').skip(1).step_by(2).collect()
}

/// A page of the book. It begins with a line feed, so that its title is found as other headings are.
fn page(name: &str) -> String {
    format!("\n{}", repository(&format!("docs/{name}")))
}

/// The text between `heading` and the next one.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) =
        page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading:?}"));
    rest.split("\n#").next().unwrap_or_default()
}

/// The code in the cell of a table.
fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The code in the first cell of each row of the tables under `heading`.
fn first_cells<'a>(page: &'a str, heading: &str) -> BTreeSet<&'a str> {
    section(page, heading)
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0))
        .collect()
}

#[test]
fn the_examples_of_the_guide_match_those_in_packaging() {
    for (name, file, language) in [
        ("installation", "config.ini", "ini"),
        ("installation", "prometheus_exporters.ini", "ini"),
        ("systemd", "scrapegate.service", "systemd"),
        ("systemd", "scrapegate.socket", "systemd"),
        ("prometheus", "prometheus.yml", "yaml"),
    ] {
        let page = page(&format!("guide/{name}.md"));
        let example = repository(&format!("packaging/examples/{file}"));
        assert!(page.contains(&format!("```{language}\n{example}```\n")), "{file}");
    }
}

#[test]
fn the_examples_load_without_a_finding() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["config.ini", "prometheus_exporters.ini"] {
        let example = repository(&format!("packaging/examples/{file}"));
        fs::write(folder.path().join(file), example).expect("written");
    }
    let certs = scrapegate(folder.path(), &["certs", "--out", "tls", "--host", "localhost"]);
    assert!(certs.status.success(), "{certs:?}");
    let check = scrapegate(folder.path(), &["check", "--config", "config.ini"]);
    // For root, `check` adds a row with the user.
    let said = String::from_utf8_lossy(&check.stdout).replace("user    root\n", "");
    assert!(check.status.success(), "{check:?}");
    assert!(
        said.starts_with("config  config.ini\nlisten  0.0.0.0:3333\n"),
        "no finding comes before: {said}"
    );
    for exporter in ["\nnode_exporter    yes ", "\nmysqld_exporter  yes "] {
        assert!(said.contains(exporter), "{exporter:?} in {said}");
    }
}

#[test]
fn the_tables_list_exactly_the_keys() {
    let source = repository("src/config/keys.rs");
    let (config, exporters) =
        (page("reference/config-ini.md"), page("reference/prometheus-exporters-ini.md"));
    for (table, page, heading) in [
        ("DEFAULT", &config, "## `[default]`"),
        ("PROMETHEUS", &config, "## `[prometheus]`"),
        ("PROXY", &config, "## `[proxy]`"),
        ("EXPORTER", &exporters, "## Keys"),
    ] {
        let declaration = between(&source, &format!("static {table}: Table"), "};");
        let keys = literals(between(declaration, "own: &[", "]")).into_iter().collect();
        assert_eq!(first_cells(page, heading), keys, "{heading}");
    }
}

#[test]
fn the_table_lists_exactly_the_statuses_with_their_labels() {
    let page = page("reference/http-api.md");
    let answers: BTreeSet<_> = Refusal::infos()
        .map(|info| (format!("{} {}", info.status.as_u16(), info.reason), info.label.to_owned()))
        .collect();
    let mut described = BTreeSet::new();
    for row in rows(&page, "## Statuses and reason phrases") {
        for label in code(row[1]) {
            described.insert((code(row[0]).concat(), label));
        }
    }
    assert!(answers.len() > 20, "{answers:?}");
    assert_eq!(described, answers);
}

#[test]
fn every_outcome_label_in_the_log_is_explained() {
    let pages =
        ["http-api", "logs", "metrics"].map(|name| page(&format!("reference/{name}.md"))).concat();
    let blamed = [Blame::Downstream, Blame::Upstream, Blame::Proxy].map(Blame::label);
    let refusals = Refusal::infos().map(|info| info.label);
    let aborts = Abort::infos().map(|info| info.label);
    for word in refusals.chain(aborts).chain(blamed) {
        assert!(pages.contains(&format!("`{word}`")), "{word}");
    }
}

#[tokio::test]
async fn every_label_that_the_docs_promise_exists_from_the_start() {
    let (metrics, own) = (page("reference/metrics.md"), own_metrics().await);
    let row = |metric: &str| {
        let all = rows(&metrics, "# Metrics");
        let row = all.into_iter().find(|row| row[0] == format!("`{metric}`"));
        code(row.expect("a row")[3])
    };
    let values = |metric: &str, label: &str| -> BTreeSet<String> {
        let series = own.lines().filter_map(|line| line.strip_prefix(&format!("{metric}{{")));
        let value = |labels: &str| between(labels, &format!("{label}=\""), "\"").to_owned();
        series.map(value).collect()
    };
    for (metric, label) in
        [("scrapegate_tls_handshakes_total", "result"), ("scrapegate_accept_errors_total", "kind")]
    {
        let promised = row(metric).into_iter().filter(|word| !word.contains('-')).collect();
        assert_eq!(values(metric, label), promised, "{metric}");
    }

    let unread = row("scrapegate_http_rejected_total");
    let unread = unread.into_iter().filter(|word| word != "reason");
    let refused = Refusal::infos().filter(|info| info.scope == Scope::Request);
    let promised: BTreeSet<_> = unread.chain(refused.map(|info| info.label.to_owned())).collect();
    assert_eq!(values("scrapegate_http_rejected_total", "reason"), promised);

    let causes: BTreeSet<_> = Abort::infos().map(|info| info.label.to_owned()).collect();
    assert_eq!(values("scrapegate_truncated_total", "cause"), causes);
}

/// All source files as one text. String literals that span several lines are joined.
fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.push_str(&sources(&path));
        } else {
            let source = fs::read_to_string(&path).expect("UTF-8");
            let mut lines = source.split("\\\n");
            all.push_str(lines.next().unwrap_or_default());
            all.extend(lines.map(str::trim_start));
        }
    }
    all
}

#[test]
fn every_log_message_in_the_troubleshooting_page_exists() {
    // Messages of rustls and of the operating system.
    const FOREIGN: [&str; 5] = [
        "peer doesn't support any known protocol",
        "peer sent no certificates",
        "received fatal alert: ",
        "InvalidContentType",
        "Too many open files",
    ];
    let page = page("guide/troubleshooting.md");
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let (mut column, mut seen) = (None, 0);
    for line in page.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if cells.len() < 3 {
            column = None;
            continue;
        }
        let Some(column) = column else {
            column = Some(cells.iter().position(|cell| *cell == "log"));
            continue;
        };
        let messages = column.map_or("", |column| cells[column]).split('`').skip(1).step_by(2);
        for message in messages.filter(|it| !it.is_empty()) {
            seen += 1;
            let is_foreign = FOREIGN.iter().any(|it| message.starts_with(it));
            assert!(is_foreign || sources.contains(message), "no source has {message:?}");
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn every_message_in_the_reference_of_the_log_exists() {
    let page = page("reference/logs.md");
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let mut seen = 0;
    for heading in ["## Refused clients and requests", "## Start, reload and shutdown"] {
        for row in rows(&page, heading) {
            for message in row[0].split('`').skip(1).step_by(2).filter(|word| *word != "check") {
                seen += 1;
                assert!(sources.contains(&format!("\"{message}\"")), "no source has {message:?}");
            }
        }
    }
    assert!(seen > 15, "{seen}");
}

/// The output of `scrapegate` with these arguments.
fn printed(arguments: &[&str]) -> String {
    let output = scrapegate(Path::new("."), arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The long options of a command, as listed by its `--help`.
fn options_of(command: &str) -> BTreeSet<String> {
    printed(&[command, "--help"])
        .lines()
        .filter_map(|line| line.trim_start().split("--").nth(1).filter(|_| line.contains("  -")))
        .map(|rest| {
            let name = rest.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).next();
            format!("--{}", name.unwrap_or_default())
        })
        .filter(|option| option != "--help")
        .collect()
}

/// All commands, as listed by `--help`.
fn commands() -> BTreeSet<String> {
    between(&printed(&["--help"]), "Commands:\n", "\n\n")
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !["", "help"].contains(name))
        .map(str::to_owned)
        .collect()
}

/// The rows of the first table under a heading, as cells.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    section(page, heading)
        .lines()
        .skip_while(|line| !line.starts_with("| "))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn every_command_has_a_row_with_all_of_its_options() {
    let page = page("reference/command-line.md");
    let mut seen = BTreeSet::new();
    for row in rows(&page, "# Command line") {
        let [command, options, _] = row[..] else { panic!("{row:?}") };
        let usage = command.rsplit("`scrapegate ").next().expect("a command");
        let name = usage.split(|c: char| !c.is_ascii_lowercase()).next().expect("a name");
        seen.insert(name.to_owned());
        if options.starts_with('[') {
            // These options have their own table, which another test compares.
            continue;
        }
        let code = options.split('`').skip(1).step_by(2);
        let said = code
            .filter(|code| code.starts_with("--"))
            .map(|code| code.split(' ').next().unwrap_or_default().to_owned());
        assert_eq!(said.collect::<BTreeSet<_>>(), options_of(name), "{name}");
    }
    assert_eq!(seen, commands());
}

#[test]
fn the_manual_page_has_every_option_and_the_exit_codes_of_the_docs() {
    let manual = printed(&["man"]);
    let plain =
        ["\\fB", "\\fI", "\\fR", "\\&"].iter().fold(manual, |it, code| it.replace(code, ""));
    let plain = plain.replace("\\-", "-").replace("\\*(Aq", "'").replace('\n', " ");
    for command in commands() {
        let (_, section) = plain
            .split_once(&format!(".SS \"scrapegate {command}\""))
            .unwrap_or_else(|| panic!("no {command} in {plain}"));
        let section = section.split(".SS").next().unwrap_or_default();
        for option in options_of(&command) {
            assert!(section.contains(&option), "{option} of {command}");
        }
    }
    for heading in ["FILES", "EXIT STATUS", "SIGNALS", "ENVIRONMENT"] {
        assert!(
            plain.contains(&format!(".SH {heading}"))
                || plain.contains(&format!(".SH \"{heading}\"")),
            "{heading} not in {plain}"
        );
    }
    let page = page("reference/command-line.md");
    let (_, after) = page.split_once("\n| exit code | meaning |\n|---|---|\n").expect("a table");
    let codes = after.lines().take_while(|line| line.starts_with('|'));
    let mut seen = 0;
    for row in codes {
        seen += 1;
        let (code, meaning) = row.trim_matches('|').split_once('|').expect("two cells");
        let entry = format!(".TP {} {}", code.trim(), meaning.trim().replace('`', ""));
        assert!(plain.contains(&entry), "{entry:?} not in {plain}");
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn every_shell_has_completions_for_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell]);
        for command in commands() {
            assert!(script.contains(&command), "{command} for {shell}");
        }
        for option in ["static", "cacert", "through-proxy"] {
            assert!(script.contains(option), "{option} for {shell}");
        }
    }
}

#[test]
fn the_table_lists_exactly_the_options_of_probe() {
    let page = page("reference/command-line.md");
    let options = options_of("probe");
    assert!(options.len() > 8, "{options:?}");
    let rows = first_cells(&page, "## Look at one exporter");
    let rows: BTreeSet<_> = rows.into_iter().map(str::to_owned).collect();
    assert_eq!(rows, options);
}

/// Our own metrics after one scrape. This includes every metric.
async fn own_metrics() -> String {
    let (stream, mut scraper) = duplex(1000);
    let proxy = Proxy::new(Connector::other(|_| {
        let (proxy, mut exporter) = duplex(1000);
        tokio::spawn(async move { exporter.write_all(b"HTTP/1.1 200 OK\r\n\r\nup 1\n").await });
        Ok(Stream::other(proxy))
    }));
    let request = b"GET /prometheus?exporter=n HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let scraping = async {
        scraper.write_all(request).await.expect("sent");
        scraper.read_to_end(&mut Vec::new()).await.expect("an answer");
    };
    tokio::join!(proxy.serve(stream), scraping);
    proxy.page()
}

/// The type of each family, and the labels of its samples. `le` is left out.
fn families(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    let mut name = String::new();
    for line in page.lines() {
        if let Some((family, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            name = family.to_owned();
            families.insert(name.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((_, labels)) = line.split_once('{') {
            let keys = labels.split("=\"").filter_map(|part| part.rsplit(['"', ',', '{']).next());
            let (_, known) = families.get_mut(&name).expect("a type before the samples");
            known.extend(keys.filter(|key| is_name(key) && *key != "le").map(str::to_owned));
        }
    }
    families
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[tokio::test]
async fn every_own_metric_has_a_row_with_its_type_and_labels() {
    let page = page("reference/metrics.md");
    let rows = section(&page, "# Metrics").lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`').to_owned();
        Some((name, (cells.next()?.to_owned(), code(cells.next()?).into_iter().collect())))
    });
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), families(&own_metrics().await));
}

#[tokio::test]
async fn alerts_and_dashboard_use_only_metrics_that_exist() {
    let page = own_metrics().await;
    let series = page.lines().filter(|line| !line.starts_with('#'));
    let mut known: BTreeSet<&str> =
        series.filter_map(|line| line.split(['{', ' ']).next()).collect();
    // The text may also name a histogram without a suffix.
    let families = families(&page);
    known.extend(families.keys().map(String::as_str));
    let dashboard = repository("packaging/grafana/scrapegate.json");
    serde_json::from_str::<serde_json::Value>(&dashboard).expect("JSON");
    for (file, text) in [
        ("dashboard", dashboard),
        ("rules", repository("packaging/prometheus/scrapegate.rules.yml")),
        ("their cases", repository("packaging/prometheus/scrapegate.test.yml")),
        (
            "docs",
            between(&repository("docs/reference/metrics.md"), "```promql\n", "```").to_owned(),
        ),
    ] {
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let asked_for: BTreeSet<&str> = words
            .filter(|word| word.starts_with("scrapegate_") || word.starts_with("process_"))
            .collect();
        let missing: Vec<_> = asked_for.difference(&known).collect();
        assert!(missing.is_empty() && !asked_for.is_empty(), "{file}: {missing:?}");
    }
}

#[test]
fn every_alert_has_its_row_with_its_severity() {
    let rules = repository("packaging/prometheus/scrapegate.rules.yml");
    let expected: BTreeSet<_> = rules
        .split("- alert: ")
        .skip(1)
        .map(|rule| {
            let name = rule.lines().next().unwrap_or_default();
            (format!("`{name}`"), between(rule, "severity: ", "\n").to_owned())
        })
        .collect();
    let page = page("reference/metrics.md");
    let rows = rows(&page, "## Alerts");
    let described = rows.iter().map(|row| (row[0].to_owned(), row[1].to_owned())).collect();
    assert!(expected.len() > 10, "{expected:?}");
    assert_eq!(expected, described);
}

#[test]
fn the_panels_of_the_dashboard_do_not_overlap() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&repository("packaging/grafana/scrapegate.json")).expect("JSON");
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: duplicate id");
        let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        for x in place("x")..place("x") + place("w") {
            assert!(x < 24, "{title} is outside the grid");
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} overlaps another panel");
            }
        }
    }
    assert!(ids.len() > 15, "{} panels", ids.len());
}
