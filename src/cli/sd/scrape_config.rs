//! A `prometheus.yml`.

use std::fmt::{self, Write as _};

use super::{Site, quoted};
use crate::{
    config::BasicAuth,
    discovery::{METRICS_PATH, SD_PATH, Scheme, duration},
};

/// Where the certificates are on the Prometheus server, unless its owner says otherwise.
const FOLDER: &str = "/etc/prometheus/scrapegate";

const HEAD: &str = "\
# Made by `scrapegate sd --format scrape_config`, for prometheus.yml on the Prometheus server.
";

/// One job, which asks the proxy for its exporters: one that comes or goes takes no change here.
pub(super) fn discovered(site: &Site<'_>) -> String {
    let scheme = site.config.security.scheme();
    let url = format!("{}://{}{SD_PATH}", scheme.as_str(), site.target);
    format!(
        "{HEAD}\
# A further host is a further entry of http_sd_configs. Interval and timeout are those of
# prometheus_exporters.ini.
{files}
scrape_configs:
  - job_name: scrapegate_exporters
{scraping}    http_sd_configs:
      - url: {url}
{asking}    relabel_configs:
      # The exporter's name in place of the job's, as dashboards expect it.
      - source_labels: [exporter]
        target_label: job
",
        files = Files(scheme),
        scraping = Client { site, indent: 4 },
        url = quoted(&url),
        asking = Client { site, indent: 8 },
    )
}

/// A job for each exporter there is now.
pub(super) fn fixed(site: &Site<'_>) -> String {
    let scheme = site.config.security.scheme();
    let mut text = format!("{HEAD}{}\n", Files(scheme));
    text += if site.exporters.is_empty() { "scrape_configs: []\n" } else { "scrape_configs:\n" };
    for (name, rules) in &site.exporters {
        let _ = write!(
            text,
            "  - job_name: {name}
    scheme: {scheme}
    metrics_path: {METRICS_PATH}
    params:
      exporter: [{name}]
    scrape_interval: {interval}
    scrape_timeout: {timeout}
{client}    static_configs:
      - targets: [{target}]
",
            name = quoted(name.as_str()),
            scheme = scheme.as_str(),
            interval = duration(rules.interval),
            timeout = duration(rules.timeout),
            client = Client { site, indent: 4 },
            target = quoted(&site.target),
        );
    }
    text
}

/// What to do about the files that the client's settings name.
struct Files(Scheme);

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Scheme::Http => Ok(()),
            Scheme::Https => writeln!(
                f,
                "# In {FOLDER}: the CA of the proxies' certificates, and Prometheus' own
# certificate and key, whose CA `client-ca` has on each host."
            ),
        }
    }
}

/// How Prometheus shows itself, for a job and for its discovery.
struct Client<'a> {
    site: &'a Site<'a>,
    indent: usize,
}

impl fmt::Display for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let margin = " ".repeat(self.indent);
        match self.site.config.security.scheme() {
            Scheme::Http => {}
            Scheme::Https => write!(
                f,
                "\
{margin}tls_config:
{margin}  ca_file: {FOLDER}/ca.crt
{margin}  cert_file: {FOLDER}/client.crt
{margin}  key_file: {FOLDER}/client.key
"
            )?,
        }
        if let Some(auth) = &self.site.config.basic_auth {
            let BasicAuth { user, password: _ } = &auth.value;
            write!(
                f,
                "\
{margin}basic_auth:
{margin}  username: {user}
{margin}  password_file: {FOLDER}/password
",
                user = quoted(user)
            )?;
        }
        Ok(())
    }
}
