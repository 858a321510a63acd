//! The `scrape_configs` for `prometheus.yml`.

use std::fmt::{self, Write as _};

use super::{Site, quoted};
use crate::{
    config::BasicAuth,
    discovery::{METRICS_PATH, SD_PATH, Scheme, duration},
    exporter::ExporterName,
};

/// Suggested folder for the certificates on the Prometheus server.
const FOLDER: &str = "/etc/prometheus/scrapegate";

const HEAD: &str = "\
# Made by `scrapegate sd --format scrape_config`, for prometheus.yml on the Prometheus server.
";

/// The job name that the alerts and the dashboard in `packaging` select.
const OWN_JOB: &str = "scrapegate";

/// One job that gets the exporters from the proxy, and the proxy's own job. Adding or removing an
/// exporter requires no change of `prometheus.yml`.
pub(super) fn discovered(site: &Site<'_>) -> String {
    let scheme = site.config.security.scheme();
    let url = format!("{}://{}{SD_PATH}", scheme.as_str(), site.target);
    format!(
        "{HEAD}\
# For each further host, add an entry to http_sd_configs and a target to the job {OWN_JOB}.
# Interval and timeout are those of prometheus_exporters.ini.
{files}
scrape_configs:
  - job_name: scrapegate_exporters
{scraping}    http_sd_configs:
      - url: {url}
{asking}    relabel_configs:
      # The exporter's name in place of the job's, as dashboards expect it.
      - source_labels: [exporter]
        target_label: job
{own}",
        files = Files(scheme),
        scraping = Client { site, indent: 4 },
        url = quoted(&url),
        asking = Client { site, indent: 8 },
        own = own_job(site),
    )
}

/// The job for the proxy's own metrics. Its target is static: service discovery lists only exporters,
/// and a proxy that is down must stay a target.
fn own_job(site: &Site<'_>) -> String {
    format!(
        "
  # scrapegate's own metrics, for its alerts and its dashboard.
  - job_name: {OWN_JOB}
    scheme: {scheme}
{client}    static_configs:
      - targets: [{target}]
",
        scheme = site.config.security.scheme().as_str(),
        client = Client { site, indent: 4 },
        target = quoted(&site.target),
    )
}

/// The job name for an exporter: the exporter's name. Job names must be unique, so an exporter named
/// like the proxy's own job gets another name.
fn job_of(exporter: &ExporterName, site: &Site<'_>) -> String {
    let mut job = exporter.as_str().to_owned();
    if job == OWN_JOB {
        while job == OWN_JOB || site.exporters.iter().any(|(name, _)| name.as_str() == job) {
            job += "_exporter";
        }
    }
    job
}

/// One job for each exporter, and the proxy's own job.
pub(super) fn fixed(site: &Site<'_>) -> String {
    let scheme = site.config.security.scheme();
    let mut text = format!("{HEAD}{}\nscrape_configs:\n", Files(scheme));
    for (name, rules) in &site.exporters {
        let _ = write!(
            text,
            "  - job_name: {job}
    scheme: {scheme}
    metrics_path: {METRICS_PATH}
    params:
      exporter: [{name}]
    scrape_interval: {interval}
    scrape_timeout: {timeout}
{client}    static_configs:
      - targets: [{target}]
",
            job = quoted(&job_of(name, site)),
            name = quoted(name.as_str()),
            scheme = scheme.as_str(),
            interval = duration(rules.interval),
            timeout = duration(rules.timeout),
            client = Client { site, indent: 4 },
            target = quoted(&site.target),
        );
    }
    text + &own_job(site)
}

/// A comment about the files that Prometheus needs.
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

/// Prometheus' TLS and HTTP Basic settings, for a job and for its service discovery.
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
