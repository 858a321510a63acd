//! A `prometheus.yml`.

use std::fmt::{self, Write as _};

use super::{Site, quoted};
use crate::{
    config::BasicAuth,
    discovery::{METRICS_PATH, SD_PATH, Scheme, duration},
    exporter::ExporterName,
};

/// Where the certificates are on the Prometheus server, unless its owner says otherwise.
const FOLDER: &str = "/etc/prometheus/scrapegate";

const HEAD: &str = "\
# Made by `scrapegate sd --format scrape_config`, for prometheus.yml on the Prometheus server.
";

/// The job that the alerts and the dashboard of `packaging` select.
const OWN_JOB: &str = "scrapegate";

/// One job that asks the proxy for its exporters, and the proxy's own job. An exporter that is added
/// or removed needs no change here.
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

/// The proxy's own metrics. Service discovery lists exporters only, and a proxy that is down must
/// still be a target: hence a static one.
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

/// The job of an exporter has the exporter's name. Job names are unique, so an exporter that has the
/// name of the proxy's own job gets another one.
fn job_of(exporter: &ExporterName, site: &Site<'_>) -> String {
    let mut job = exporter.as_str().to_owned();
    if job == OWN_JOB {
        while job == OWN_JOB || site.exporters.iter().any(|(name, _)| name.as_str() == job) {
            job += "_exporter";
        }
    }
    job
}

/// A job for each exporter there is now, and the proxy's own job.
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
