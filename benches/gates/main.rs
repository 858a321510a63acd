//! Gates on counts: the cost of a scrape in instructions, allocations, system calls, TLS records,
//! polls and wake-ups, compared with the baselines in `benches/gates.json`. Counts are reproducible
//! and wall-clock times of a shared machine are not, so the gates detect a regression of a few
//! percent.
//!
//! ```sh
//! cargo bench --bench gates                     # exit code 1 if a count is worse
//! cargo bench --bench gates -- --bless          # updates the baselines, and lists the changes
//! cargo bench --bench gates -- --require-all    # for CI: fails without valgrind or strace
//! ```
//!
//! A count that improved by more than its tolerance is reported and does not fail. Bless it, so
//! that the improvement cannot get lost unnoticed. Tolerances are edited in the file.
//!
//! All counts except the system calls are measured in this process or a child of it, between
//! streams in memory. Instructions are counted without TLS, because cryptography chooses its code
//! by the CPU. `memcpy` depends on the CPU too, so the baselines are valid for one compiler and one
//! kind of machine, which the file names. After a change of the compiler, bless the parent commit
//! first.
//!
//! Wake-ups include those that a task causes itself while it runs, which are cheap. Polls count how
//! often the task really ran. Judge both together.
//!
//! Not shown: time. Instructions that miss the cache count like those that do not, and expensive
//! system calls like cheap ones. No scenario has many scrapes at once. Instruction counts exclude
//! the kernel and cryptography. They include the instructions with which the exporter in memory
//! copies its bytes.
#![expect(clippy::print_stdout, reason = "the report is the output of this program")]

mod baseline;
mod here;
mod scenarios;
mod tools;

use std::{env, path::Path, process::ExitCode};

use baseline::{Baselines, Counts, Row, Verdict};
use scenarios::{SCENARIOS, Scenario};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/gates.json");
const USAGE: &str = "usage: cargo bench --bench gates -- [--bless] [--require-all]";

/// How the names of the counts that are measured in this process begin.
const MADE_HERE: [&str; 8] = [
    "allocations",
    "bytes allocated",
    "reads of the exporter",
    "writes to the scraper",
    "TLS records",
    "polls",
    "wake-ups",
    "percent of TLS records",
];

#[derive(Default)]
struct Options {
    bless: bool,
    require_all: bool,
    /// `cargo bench` runs this program, not `cargo test`.
    is_bench: bool,
    /// Run every scenario once and count nothing.
    smoke: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if let [child, name, times] = &words[..]
        && child == "--child"
    {
        return run_child(name, times);
    }
    let mut options = Options::default();
    for word in &words {
        match word.as_str() {
            "--bless" => options.bless = true,
            "--require-all" => options.require_all = true,
            "--bench" => options.is_bench = true,
            "--test" => options.smoke = true,
            _ => {
                println!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    if options.smoke || !options.is_bench {
        SCENARIOS.iter().for_each(|scenario| scenario.prepare(1)());
        println!("each scenario ran once; nothing was counted");
        return ExitCode::SUCCESS;
    }
    run(&options)
}

fn run_child(name: &str, times: &str) -> ExitCode {
    match (Scenario::of_name(name), times.parse()) {
        (Some(scenario), Ok(times)) => {
            scenario.prepare(times)();
            ExitCode::SUCCESS
        }
        (None, _) | (_, Err(_)) => ExitCode::from(2),
    }
}

fn run(options: &Options) -> ExitCode {
    let mut counts = Counts::default();
    let mut made: Vec<&str> = MADE_HERE.into();
    here::allocations(&mut counts);
    here::over_tls(&mut counts);
    here::tasks(&mut counts);
    let mut missing = Vec::new();
    if tools::works(&["valgrind", "--tool=cachegrind", "--cachegrind-out-file=/dev/null", "true"]) {
        tools::instructions(&mut counts);
        made.push("instructions");
    } else {
        missing.push("valgrind");
    }
    if tools::works(&["strace", "-f", "-c", "-o", "/dev/null", "true"]) {
        tools::system_calls(&mut counts);
        made.push("system calls");
    } else {
        missing.push("strace");
    }

    let mut baselines = Baselines::read(Path::new(FILE));
    let rows = baselines.judge(&counts);
    let left_over: Vec<String> =
        baselines.left_over(&counts, &made).into_iter().map(str::to_owned).collect();
    print_table(&rows);
    let with = format!("{}, {}", tools::version("rustc"), tools::version("valgrind"));
    if with != baselines.counted_with && !baselines.counted_with.is_empty() {
        println!(
            "\nthis run uses {with}; the baselines were counted with {}",
            baselines.counted_with
        );
    }

    if options.bless {
        baselines.bless(&rows, &left_over);
        if made.contains(&"instructions") {
            baselines.counted_with = with;
        }
        baselines.write(Path::new(FILE));
        print_moved(&rows, &left_over);
    }
    let failed = print_verdict(options, &rows, &left_over, &missing);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print_table(rows: &[Row]) {
    println!("{:<62} {:>12} {:>12} {:>9}", "count", "baseline", "now", "change");
    for row in rows {
        let before = row.before.map_or_else(|| "-".to_owned(), |before| before.to_string());
        let verdict = match row.verdict {
            Verdict::AsBefore => "",
            Verdict::Worse => "  WORSE",
            Verdict::Better => "  better",
            Verdict::NoBaseline => "  no baseline",
        };
        println!("{:<62} {before:>12} {:>12} {:>9}{verdict}", row.name, row.now, change(row));
    }
}

fn change(row: &Row) -> String {
    match row.before {
        Some(before) if before > 0.0 => format!("{:+.1} %", (row.now / before - 1.0) * 100.0),
        Some(before) => format!("{:+.2}", row.now - before),
        None => String::new(),
    }
}

fn print_moved(rows: &[Row], left_over: &[String]) {
    let moved: Vec<&Row> = rows.iter().filter(|row| row.verdict != Verdict::AsBefore).collect();
    println!("\n{} baselines changed", moved.len() + left_over.len());
    for row in moved {
        let before = row.before.map_or_else(|| "new".to_owned(), |before| before.to_string());
        println!("  {}: {before} -> {} {}", row.name, row.now, change(row));
    }
    for name in left_over {
        println!("  {name}: removed");
    }
}

/// Prints what is wrong. Returns true if the run fails.
fn print_verdict(options: &Options, rows: &[Row], left_over: &[String], missing: &[&str]) -> bool {
    let having = |verdict| rows.iter().filter(move |row| row.verdict == verdict);
    for tool in missing {
        println!("\nNOT COUNTED: {tool} is missing or does not work here");
    }
    let lacks_a_tool = options.require_all && !missing.is_empty();
    if options.bless {
        return lacks_a_tool;
    }
    for row in having(Verdict::Better) {
        println!("\n{} improved ({}): bless it", row.name, change(row));
    }
    for name in left_over {
        println!("\n{name} has a baseline and was not counted: bless, or restore the count");
    }
    let new = having(Verdict::NoBaseline).count();
    if new > 0 {
        println!("\n{new} counts have no baseline: bless them");
    }
    let worse: Vec<&Row> = having(Verdict::Worse).collect();
    for row in &worse {
        println!(
            "\nWORSE: {}: {}, baseline {}, tolerance {} %",
            row.name,
            row.now,
            row.before.unwrap_or_default(),
            row.tolerance
        );
    }
    println!("\n{} counts, {} worse", rows.len(), worse.len());
    lacks_a_tool || new > 0 || !worse.is_empty() || !left_over.is_empty()
}
