//! What Prometheus' service discovery is told: a target group for each exporter. Pure.
//!
//! HTTP SD and file SD have the same JSON. The labels say all that a scrape needs, so that one job
//! of `prometheus.yml` does for all exporters of all hosts.

use std::{num::NonZeroU16, time::Duration};

use hyper::http::uri::Authority;
use serde::Serialize;

use crate::{
    deadline::Budget,
    exporter::{ExporterName, ScrapeRules},
};

/// The path of everything that is scraped.
pub const METRICS_PATH: &str = "/prometheus";

/// The path of the list that HTTP SD reads.
pub const SD_PATH: &str = "/prometheus/sd";

/// How the proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// With `insecure-plain-http`.
    Http,
    /// Always else.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// `[proxy] advertise`: where scrapers reach the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// A DNS name or an address; IPv6 in brackets.
    pub host: String,
    /// That of the listener when absent.
    pub port: Option<NonZeroU16>,
}

impl Advertised {
    /// `HOST:PORT`, with the port that is listened on where it has none of its own.
    #[must_use]
    pub fn target(&self, listening: u16) -> String {
        format!("{}:{}", self.host, self.port.map_or(listening, NonZeroU16::get))
    }
}

/// Where the proxy is, as its own list says.
#[derive(Clone, Debug)]
pub struct Place {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// The advertised `HOST:PORT`; when absent, what the request was sent to.
    pub advertised: Option<String>,
}

impl Place {
    /// The target groups for a client that sent its request to `host`.
    pub fn groups<'a>(
        &self,
        host: &Authority,
        exporters: impl Iterator<Item = (&'a ExporterName, &'a ScrapeRules)>,
    ) -> Vec<TargetGroup<'a>> {
        // An empty port is the scheme's (RFC 3986 §3.2.3), which Prometheus does not know.
        let host = host.as_str().trim_end_matches(':');
        let target = self.advertised.as_deref().unwrap_or(host);
        groups(self.scheme, target, exporters)
    }
}

/// One exporter, as Prometheus is told of it.
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

/// The target groups of exporters behind the proxy at `target`, in their order.
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

/// As Prometheus writes it: `15s`, `1500ms`. It knows nothing below a millisecond, and refuses
/// zero and a timeout longer than the interval; rounded up, neither comes out.
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
    fn durations_are_those_that_prometheus_reads() {
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
    fn a_port_is_added_only_where_there_is_none() {
        for (host, port, target) in [
            ("node1", None, "node1:3333"),
            ("node1", Some(8443), "node1:8443"),
            ("[2001:db8::1]", None, "[2001:db8::1]:3333"),
        ] {
            let port = port.and_then(NonZeroU16::new);
            let advertised = Advertised { host: host.to_owned(), port };
            assert_eq!(advertised.target(3333), target);
        }
    }

    #[test]
    fn without_an_advertised_address_it_is_the_one_that_was_asked() {
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
                integrity: crate::exporter::Integrity::Strict,
            };
            let place = Place { scheme: Scheme::Https, advertised };
            let groups = place.groups(&Authority::from_static(host), [(&name, &rules)].into_iter());
            groups.into_iter().map(|group| group.targets.concat()).collect::<String>()
        };
        assert_eq!(target(None, "h:3333"), "h:3333");
        assert_eq!(target(None, "h:"), "h");
        assert_eq!(target(None, "[::1]:3333"), "[::1]:3333");
        assert_eq!(target(Some("node1:1"), "h:3333"), "node1:1");
    }
}
