//! What to enter in openITCOCKPIT.

use std::fmt::Write as _;

use super::{Site, quoted};
use crate::{
    discovery::{METRICS_PATH, Scheme, duration},
    exporter::{ExporterName, ScrapeRules},
};

/// The settings of openITCOCKPIT's own Prometheus, which shows the server's CA certificate.
const TLS: &str = "\
scheme: https
tls_config:
  insecure_skip_verify: true
  ca_file: /opt/openitc/agent/server_ca.pem
  cert_file: /opt/openitc/agent/server_ca.pem
  key_file: /opt/openitc/agent/server_ca.key
";

/// An exporter configuration for each exporter.
pub(super) fn instructions(site: &Site<'_>) -> String {
    let mut text = format!(
        "\
# Made by `scrapegate sd --format openitcockpit`. The proxy is at {}.
# In openITCOCKPIT, each of these becomes an exporter, which is then added to this host.
",
        site.target
    );
    for exporter in &site.exporters {
        text += &instruction(site, exporter);
    }
    text
}

fn instruction(site: &Site<'_>, (name, rules): &(&ExporterName, &ScrapeRules)) -> String {
    let (_, port) = site.target.rsplit_once(':').unwrap_or_default();
    let mut text = format!(
        "
# {name}
#   metrics path     {METRICS_PATH}
#   port             {port}
#   scrape interval  {interval}
#   scrape timeout   {timeout}
#   YAML:
params:
  exporter: [{quoted}]
",
        interval = duration(rules.interval),
        timeout = duration(rules.timeout),
        quoted = quoted(name.as_str()),
    );
    match site.config.security.scheme() {
        Scheme::Https => text += TLS,
        Scheme::Http => {}
    }
    if let Some(auth) = &site.config.basic_auth {
        let _ = write!(
            text,
            "\
basic_auth:
  username: {}
  password: <the password of `auth` in config.ini>
",
            quoted(&auth.value.user)
        );
    }
    text
}
