//! The `scrapegate` command. All code is in the library.

fn main() -> std::process::ExitCode {
    scrapegate::cli::main()
}
