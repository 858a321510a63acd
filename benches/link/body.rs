//! A large page of metrics as the exporters of a cluster have it: many families, several labels,
//! histograms with thirteen buckets, and values with many digits.
//!
//! How far a body can be compressed depends on what varies. Here it is the value of each sample, and
//! a label of each series. `gzip -1` and `zstd -1` leave about a tenth, as they do of pages of
//! real clusters.

use std::fmt::Write as _;

const COMPONENTS: [&str; 6] = ["apiserver", "kubelet", "etcd", "scheduler", "controller", "proxy"];
const VERBS: [&str; 5] = ["GET", "LIST", "POST", "PUT", "WATCH"];
const RESOURCES: [&str; 7] =
    ["pods", "nodes", "services", "endpoints", "configmaps", "deployments", "events"];
const BUCKETS: [&str; 13] =
    ["0.005", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "+Inf"];

/// Series of one family that has no buckets.
const SERIES: usize = 60;
/// Series of one histogram.
const HISTOGRAMS: usize = 12;

/// At least `length` bytes of the text format. All calls return the same text.
pub(crate) fn exposition(length: usize) -> String {
    let mut text = String::with_capacity(length + 64 * 1024);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for family in 0.. {
        if text.len() >= length {
            break;
        }
        let component = COMPONENTS[family % COMPONENTS.len()];
        match family % 3 {
            0 => histogram(&mut text, &mut random, component, family),
            1 => gauge(&mut text, &mut random, component, family),
            _ => counter(&mut text, &mut random, component, family),
        }
        .expect("a string takes all");
    }
    text
}

fn histogram(
    text: &mut String,
    random: &mut Random,
    component: &str,
    family: usize,
) -> std::fmt::Result {
    let name = format!("{component}_request_duration_seconds_{family}");
    writeln!(text, "# HELP {name} Response latency in seconds by verb, resource and version.")?;
    writeln!(text, "# TYPE {name} histogram")?;
    for series in 0..HISTOGRAMS {
        let resource = RESOURCES[random.below(7) as usize];
        let verb = VERBS[series % 5];
        let labels = format!(
            "component=\"{component}\",resource=\"{resource}\",scope=\"cluster\",verb=\"{verb}\",version=\"v{series}\""
        );
        let mut count = 0;
        for bucket in BUCKETS {
            count += random.below(97);
            writeln!(text, "{name}_bucket{{{labels},le=\"{bucket}\"}} {count}")?;
        }
        let sum = random.below(1_000_000_000) as f64 / 1e6;
        writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}")?;
    }
    Ok(())
}

fn gauge(
    text: &mut String,
    random: &mut Random,
    component: &str,
    family: usize,
) -> std::fmt::Result {
    let name = format!("{component}_memory_working_set_bytes_{family}");
    writeln!(text, "# HELP {name} Current working set of the container in bytes.")?;
    writeln!(text, "# TYPE {name} gauge")?;
    for series in 0..SERIES {
        let labels = container(random, component, series);
        writeln!(text, "{name}{{{labels}}} {}", random.below(65_536) * 4096)?;
    }
    Ok(())
}

fn counter(
    text: &mut String,
    random: &mut Random,
    component: &str,
    family: usize,
) -> std::fmt::Result {
    let name = format!("{component}_cpu_usage_seconds_total_{family}");
    writeln!(text, "# HELP {name} Cumulative CPU time consumed in seconds.")?;
    writeln!(text, "# TYPE {name} counter")?;
    for series in 0..SERIES {
        let labels = container(random, component, series);
        writeln!(text, "{name}{{{labels}}} {}", random.below(10_000_000_000) as f64 / 1e3)?;
    }
    Ok(())
}

fn container(random: &mut Random, component: &str, series: usize) -> String {
    format!(
        "container=\"worker-{}\",namespace=\"team-{}\",pod=\"{component}-{:05x}\"",
        random.below(8),
        series % 7,
        random.below(1 << 20)
    )
}

/// Xorshift (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
