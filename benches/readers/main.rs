//! Our own reader of exporters' responses (`src/upstream`) against hyper's client connection, which
//! is polled in the same task, behind the same [`Source`](scrapegate::scrape::source::Source).
//!
//! ```sh
//! cargo bench --bench readers                 # 2 minutes; valgrind counts the instructions
//! cargo bench --bench readers -- differences  # only the responses that are judged differently
//! ```
//!
//! Over loopback, the readers take turns. The CPU time is that of the reader's thread, with the
//! kernel's share. The exporter has another thread. hyper's socket has the same options:
//! TCP_NODELAY, and the receive low-water mark at the same times. Slices are held until a batch is
//! full, as in the relay.
//!
//! Not shown: TLS on either side, and the scraper's socket. Therefore two readers differ by more
//! percent here than two proxies that use them.
#![expect(clippy::print_stdout, reason = "the report is the output of this program")]

mod differences;
mod drain;
mod measure;
mod reader;
mod workload;

use std::{alloc::System, env, hint, process::ExitCode, sync::Arc};

use scrapegate_harness::side_by_side::{
    machine,
    numbers::{median, significant},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use measure::{InMemory, OverLoopback};
use reader::Reader;
use workload::{WORKLOADS, Workload};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Number of rounds over loopback. Their medians are reported.
const ROUNDS: usize = 5;

const USAGE: &str = "usage: cargo bench --bench readers -- [differences]";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        // `cargo bench` adds the last word.
        ["--bench"] => report(),
        ["differences", "--bench"] => println!("{}", differences::table()),
        // `cargo test` adds no word.
        [] | ["--test", ..] => smoke(),
        ["--child", reader, workload, mib] => {
            let number = |word: &str| word.parse::<usize>().expect("a number");
            let (reader, workload) = (Reader::ALL[number(reader)], WORKLOADS[number(workload)]);
            measure::read_in_memory(reader, workload, number(mib), &Arc::default());
        }
        _ => {
            println!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Runs everything once, and measures nothing.
fn smoke() {
    for workload in WORKLOADS {
        for reader in Reader::ALL {
            measure::read_in_memory(reader, workload, 1, &Arc::default());
        }
    }
    println!("{}", differences::table());
}

fn report() {
    // As each worker of the proxy does, so that glibc keeps freed read buffers. Otherwise page
    // faults cost our own reader, whose buffers are larger, up to a third of its time.
    drop(hint::black_box(Vec::<u8>::with_capacity(1024 * 1024)));
    println!("- machine: {}\n", machine::description());
    over_loopback();
    in_memory();
    println!("{}", differences::table());
}

/// A table with a row for each workload and a column for each reader, by their indices.
fn print_table(title: &str, cell: impl Fn(usize, usize) -> Option<f64>) {
    println!("| {title} | {} |", Reader::ALL.map(Reader::name).join(" | "));
    println!("|---|{}", "---|".repeat(Reader::ALL.len()));
    for (at, workload) in WORKLOADS.iter().enumerate() {
        let cells: Vec<_> = (0..Reader::ALL.len())
            .map(|reader| cell(at, reader).map_or_else(|| "-".to_owned(), significant))
            .collect();
        println!("| {} | {} |", workload.name, cells.join(" | "));
    }
    println!();
}

fn over_loopback() {
    let rounds = WORKLOADS.map(rounds);
    let print = |title: &str, figure: fn(&OverLoopback) -> f64| {
        print_table(title, |workload, reader| {
            let values: Vec<_> = rounds[workload][reader].iter().map(figure).collect();
            median(&values)
        });
    };
    print("CPU seconds of the reader per GB", |it| it.cpu);
    print("waits of the reader's thread per MiB", |it| it.waits);
    print("polls of the reader's task per MiB", |it| it.polls);
}

/// All rounds of each reader.
fn rounds(workload: Workload) -> [Vec<OverLoopback>; Reader::ALL.len()] {
    let address = workload.exporter();
    let mut all = [const { Vec::new() }; Reader::ALL.len()];
    // The first round warms up.
    for round in 0..=ROUNDS {
        for (rounds, reader) in all.iter_mut().zip(Reader::ALL) {
            let measured = measure::over_loopback(reader, workload, address);
            if round > 0 {
                rounds.push(measured);
            }
        }
    }
    all
}

fn in_memory() {
    let counts =
        WORKLOADS.map(|workload| Reader::ALL.map(|reader| measure::in_memory(reader, workload)));
    let print = |title: &str, figure: fn(&InMemory) -> f64| {
        print_table(title, |workload, reader| Some(figure(&counts[workload][reader])));
    };
    print("in memory: reads per MiB", |it| it.reads);
    print("in memory: allocations per MiB", |it| it.allocations);
    print("in memory: bytes allocated per MiB", |it| it.allocated);
    print_table("in memory: instructions per MiB", |workload, reader| {
        measure::instructions(reader, workload)
    });
    let title = "KiB of the heap for each reader whose scraper does not read";
    print_table(title, |workload, reader| {
        Some(measure::stalled(Reader::ALL[reader], WORKLOADS[workload]) / 1024.0)
    });
}
