//! The `scrapegate` command.

fn main() {}
