//! Target groups for Prometheus' service discovery, one for each exporter. Pure.
//!
//! HTTP SD and file SD use the same JSON. The labels have everything that a scrape needs, so one
//! job in `prometheus.yml` covers all exporters of all hosts.

use std::time::Duration;

use hyper::http::uri::Authority;
use serde::Serialize;

use crate::{
    common::{
        deadline::Budget,
        exporter::{ExporterName, ScrapeRules},
    },
    config::Scheme,
};

/// The URL path of scrapes and of the list of exporters.
pub const METRICS_PATH: &str = "/prometheus";

/// The URL path of the target groups for HTTP SD.
pub const SD_PATH: &str = "/prometheus/sd";

/// The address of the proxy, as its target groups have it.
#[derive(Clone, Debug)]
pub struct ProxyEndpoint {
    /// The URL scheme.
    pub scheme: Scheme,
    /// The advertised `HOST:PORT`. If `None`, the `Host` of the request is used.
    pub advertised: Option<String>,
}

impl ProxyEndpoint {
    /// The target groups for a client that sent its request to `host`.
    pub fn groups<'a>(
        &self,
        host: &Authority,
        exporters: impl Iterator<Item = (&'a ExporterName, &'a ScrapeRules)>,
    ) -> Vec<TargetGroup<'a>> {
        // An empty port means the default port (RFC 3986 §3.2.3). Prometheus does not accept it.
        let host = host.as_str().trim_end_matches(':');
        let target = self.advertised.as_deref().unwrap_or(host);
        groups(self.scheme, target, exporters)
    }
}

/// The target group of one exporter.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct TargetGroup<'a> {
    targets: [String; 1],
    labels: Labels<'a>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Labels<'a> {
    #[serde(rename = "__scheme__")]
    scheme: Scheme,
    #[serde(rename = "__metrics_path__")]
    metrics_path: &'static str,
    #[serde(rename = "__param_exporter")]
    parameter: &'a str,
    #[serde(rename = "__scrape_interval__")]
    interval: String,
    #[serde(rename = "__scrape_timeout__")]
    timeout: String,
    exporter: &'a str,
}

/// The target groups of `exporters` behind the proxy at `target`, in the same order.
pub fn groups<'a>(
    scheme: Scheme,
    target: &str,
    exporters: impl Iterator<Item = (&'a ExporterName, &'a ScrapeRules)>,
) -> Vec<TargetGroup<'a>> {
    let group = |(name, rules): (&'a ExporterName, &ScrapeRules)| TargetGroup {
        targets: [target.to_owned()],
        labels: Labels {
            scheme,
            metrics_path: METRICS_PATH,
            parameter: name.as_str(),
            interval: duration(rules.interval),
            timeout: duration(rules.timeout),
            exporter: name.as_str(),
        },
    };
    exporters.map(group).collect()
}

/// A duration in the format of Prometheus: `15s`, `1500ms`. Rounds up to milliseconds, the smallest
/// unit of Prometheus. Rounding up avoids zero, and keeps a timeout from exceeding its interval;
/// Prometheus refuses both.
#[must_use]
pub fn duration(budget: Budget) -> String {
    const MILLISECOND: u128 = Duration::from_millis(1).as_nanos();
    let milliseconds = budget.as_duration().as_nanos().div_ceil(MILLISECOND);
    if milliseconds % 1000 == 0 {
        format!("{}s", milliseconds / 1000)
    } else {
        format!("{milliseconds}ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_format_of_prometheus() {
        for (seconds, written) in [
            (15.0, "15s"),
            (1.5, "1500ms"),
            (0.25, "250ms"),
            (86_400.0, "86400s"),
            (0.000_1, "1ms"),
            (2.000_1, "2001ms"),
        ] {
            let budget = Budget::new(Duration::from_secs_f64(seconds)).expect("a budget");
            assert_eq!(duration(budget), written, "{seconds}");
        }
    }

    #[test]
    fn without_an_advertised_address_the_host_of_the_request_is_used() {
        let target = |advertised: Option<&str>, host: &'static str| {
            let advertised = advertised.map(str::to_owned);
            let name = ExporterName::new("e").expect("a name");
            let budget = Budget::new(Duration::from_secs(1)).expect("a budget");
            let rules = ScrapeRules {
                interval: budget,
                timeout: budget,
                connect_timeout: budget,
                max_concurrent: std::num::NonZeroU32::MIN,
                max_body: None,
                forward_params: true,
                integrity: crate::common::exporter::Integrity::Strict,
                compression: crate::common::compression::CompressionRules::default(),
                families: None,
            };
            let proxy_endpoint = ProxyEndpoint { scheme: Scheme::Https, advertised };
            let groups =
                proxy_endpoint.groups(&Authority::from_static(host), [(&name, &rules)].into_iter());
            groups.into_iter().map(|group| group.targets.concat()).collect::<String>()
        };
        assert_eq!(target(None, "h:3333"), "h:3333");
        assert_eq!(target(None, "h:"), "h");
        assert_eq!(target(None, "[::1]:3333"), "[::1]:3333");
        assert_eq!(target(Some("node1:1"), "h:3333"), "node1:1");
    }
}
