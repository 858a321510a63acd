//! What benchmarks share that compare scrapegate with other programs: networks of their own,
//! certificates, processes, and the time that they use.

pub mod credentials;
pub mod machine;
pub mod network;
pub mod numbers;
pub mod process;
pub mod programs;
pub mod scraper;

use std::error::Error;

/// The result of a step of a benchmark. An error ends the benchmark.
pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;
