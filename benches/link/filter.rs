//! What a filter of metric families costs, over loopback and without compression.

use scrapegate_harness::side_by_side::Result;

use crate::{
    column::Column,
    figures::{Figure, Figures},
    scrapes::{self, Stage},
};

/// The name of these scrapes.
pub(crate) const GROUP: &str = "filter, loopback";

/// The columns.
pub(crate) const NONE: &str = "no filter";
pub(crate) const NOTHING: &str = "drops nothing";
pub(crate) const HALF: &str = "drops half";

/// Scrapes of one round. The first ones cost more, because the heap of the proxy grows.
const SCRAPES: usize = 40;

/// Half of the components have half of the bytes.
const COLUMNS: [(&str, &str); 3] = [
    (NONE, ""),
    (NOTHING, "metrics-drop = no_family_has_this_name\n"),
    (HALF, "metrics-drop = (apiserver|kubelet|etcd)_.*\n"),
];

/// Measures CPU seconds for each scrape.
pub(crate) fn measure(stage: &Stage<'_>, rounds: usize, figures: &mut Figures) -> Result<()> {
    for _ in 0..rounds {
        for (name, keys) in COLUMNS {
            let cpu = scrapes::cpu_time(stage, &Column::of_keys(name, keys), SCRAPES)?;
            figures.add(GROUP, name, Figure::Cpu, cpu.as_secs_f64() / SCRAPES as f64);
        }
    }
    Ok(())
}
