//! The output of the demo.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{exporter::NAME, scrape::Scraped};
use crate::cli::{
    certs::Curl,
    client::{Encryption, Figures},
    figures::{Grouped, Length, Rate, Size},
};

/// The running setup, printed before the scrape.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) folder: PathBuf,
    pub(super) exporter: SocketAddr,
    pub(super) series: u64,
}

impl Introduction {
    /// The text for a proxy on this address.
    pub(super) fn of_proxy(&self, proxy: SocketAddr) -> String {
        format!(
            "\
scrapegate demo: an exporter, the proxy in front of it, and one scrape through both

  exporter    http://{exporter}/metrics, {series} synthetic series
  proxy       https://{proxy}/prometheus, requires a client certificate
  files       {folder}: certificates, config.ini, prometheus_exporters.ini

",
            exporter = self.exporter,
            series = Grouped(self.series),
            folder = self.folder.display(),
        )
    }
}

/// The figures of the scrape, and the commands to try.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub(super) scraped: &'a Scraped,
    pub(super) folder: &'a Path,
    pub(super) proxy: SocketAddr,
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scraped { figures, samples, encryption } = self.scraped;
        let Figures { bytes, first_byte, total } = *figures;
        let curl = Curl::new(self.folder);
        let list = format!("https://{}/prometheus", self.proxy);
        let one = format!("{list}?exporter={NAME}");
        let unknown = format!("{list}?exporter=unknown");
        write!(
            f,
            "\
The scrape is complete:

  series      {series}
  size        {size}
  first byte  {first_byte}, including the TLS handshake
  total       {total}, {rate}
  encryption  {encryption}, both sides authenticated

Try it from another terminal:

  # List the exporters
  {list}

  # Scrape one exporter and show the last lines
  {one} -sS | tail -n 3

  # Request an unknown exporter: 404
  {unknown} --include

  # Connect without a client certificate: refused
  {anonymous}

Press Ctrl-C to stop the demo and remove its files.
",
            series = Grouped(*samples),
            size = Size(bytes as f64),
            first_byte = Length(first_byte),
            total = Length(total),
            rate = Rate(bytes, total),
            encryption =
                encryption.as_ref().map_or_else(|| "none".to_owned(), Encryption::to_string),
            list = curl.get(&list),
            one = curl.get(&one),
            unknown = curl.get(&unknown),
            anonymous = curl.get_anonymously(&list),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_report_is_short_and_has_commands_to_paste() {
        let proxy = SocketAddr::from(([127, 0, 0, 1], 3333));
        let introduction = Introduction {
            folder: PathBuf::from("/tmp/my demo"),
            exporter: SocketAddr::from(([127, 0, 0, 1], 40123)),
            series: 100_000,
        };
        let outcome = Outcome {
            scraped: &Scraped {
                figures: Figures {
                    bytes: 9_412_345,
                    first_byte: Duration::from_micros(3_140),
                    total: Duration::from_millis(50),
                },
                samples: 100_000,
                encryption: Some(Encryption {
                    version: "TLS 1.3".to_owned(),
                    cipher_suite: "TLS_AES_256_GCM_SHA384".to_owned(),
                }),
            },
            folder: &introduction.folder,
            proxy,
        };
        let text = introduction.of_proxy(proxy) + &outcome.to_string();
        let pair = "--cert '/tmp/my demo/client.crt' --key '/tmp/my demo/client.key'";
        for line in [
            "  exporter    http://127.0.0.1:40123/metrics, 100 000 synthetic series",
            "  series      100 000",
            "  size        9.4 MB",
            "  first byte  3.1 ms, including the TLS handshake",
            "  total       50.0 ms, 188.2 MB/s",
            "  encryption  TLS 1.3, TLS_AES_256_GCM_SHA384, both sides authenticated",
            &format!(
                "  curl --cacert '/tmp/my demo/ca.crt' {pair} https://127.0.0.1:3333/prometheus"
            ),
            &format!(
                "  curl --cacert '/tmp/my demo/ca.crt' {pair} \
                 'https://127.0.0.1:3333/prometheus?exporter=demo' -sS | tail -n 3"
            ),
            "  curl --cacert '/tmp/my demo/ca.crt' https://127.0.0.1:3333/prometheus",
        ] {
            assert!(text.lines().any(|printed| printed == line), "{line}\n{text}");
        }
        assert!(text.lines().count() <= 32, "{text}");
    }
}
