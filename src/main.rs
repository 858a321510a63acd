//! The `scrapegate` command: all of it is in the library.

fn main() -> std::process::ExitCode {
    scrapegate::cli::main()
}
