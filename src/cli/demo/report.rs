//! What the demo says.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{EXPORTER, scrape::Figures};
use crate::cli::certs::Curl;

/// What is running, said before the scrape.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) folder: PathBuf,
    pub(super) exporter: SocketAddr,
    pub(super) series: u64,
}

impl Introduction {
    /// The text, for a proxy on that address.
    pub(super) fn of_proxy(&self, proxy: SocketAddr) -> String {
        format!(
            "\
scrapegate demo: an exporter, the proxy in front of it, and one scrape through both

  exporter    http://{exporter}/metrics, {series} synthetic series
  proxy       https://{proxy}/prometheus, for clients with a certificate
  files       {folder}: certificates, config.ini, prometheus_exporters.ini

",
            exporter = self.exporter,
            series = Grouped(self.series),
            folder = self.folder.display(),
        )
    }
}

/// How the scrape went, and what to try.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub(super) figures: &'a Figures,
    pub(super) folder: &'a Path,
    pub(super) proxy: SocketAddr,
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { bytes, samples, first_byte, total, tls_version, cipher_suite } = self.figures;
        let curl = Curl::new(self.folder);
        let list = format!("https://{}/prometheus", self.proxy);
        let one = format!("{list}?exporter={EXPORTER}");
        let unknown = format!("{list}?exporter=nobody");
        write!(
            f,
            "\
The scrape was complete:

  series      {series}
  size        {size}
  first byte  {first_byte}, TLS handshake included
  total       {total}, {rate}/s
  encryption  {tls_version}, {cipher_suite}, both sides authenticated

Try it from another terminal:

  # Which exporters are there?
  {list}

  # One of them; the end of what it says
  {one} -sS | tail -n 3

  # One that does not exist: 404
  {unknown} --include

  # Without a client certificate: refused
  {anonymous}

Press Ctrl-C to stop and to remove the files.
",
            series = Grouped(*samples),
            size = Size(*bytes as f64),
            first_byte = Length(*first_byte),
            total = Length(*total),
            rate = Size(*bytes as f64 / total.as_secs_f64().max(1e-6)),
            list = curl.get(&list),
            one = curl.get(&one),
            unknown = curl.get(&unknown),
            anonymous = curl.get_anonymously(&list),
        )
    }
}

/// Digits in groups of three: `100 000`.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(" ")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// Bytes with a decimal unit: `9.4 MB`.
struct Size(f64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not 1000, which would come out as `1000.0 kB`.
        match self.0 {
            bytes if bytes < 999.5 => write!(f, "{bytes:.0} bytes"),
            bytes if bytes < 999.95e3 => write!(f, "{:.1} kB", bytes / 1e3),
            bytes if bytes < 999.95e6 => write!(f, "{:.1} MB", bytes / 1e6),
            bytes => write!(f, "{:.1} GB", bytes / 1e9),
        }
    }
}

/// A length of time: `3.1 ms`, `1.25 s`.
struct Length(Duration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 0.999_95 {
            write!(f, "{:.1} ms", seconds * 1e3)
        } else {
            write!(f, "{seconds:.2} s")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_short_and_its_commands_can_be_pasted() {
        let proxy = SocketAddr::from(([127, 0, 0, 1], 3333));
        let introduction = Introduction {
            folder: PathBuf::from("/tmp/my demo"),
            exporter: SocketAddr::from(([127, 0, 0, 1], 40123)),
            series: 100_000,
        };
        let outcome = Outcome {
            figures: &Figures {
                bytes: 9_412_345,
                samples: 100_000,
                first_byte: Duration::from_micros(3_140),
                total: Duration::from_millis(50),
                tls_version: "TLS 1.3".to_owned(),
                cipher_suite: "TLS_AES_256_GCM_SHA384".to_owned(),
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
            "  first byte  3.1 ms, TLS handshake included",
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
            assert!(text.lines().any(|said| said == line), "{line}\n{text}");
        }
        assert!(text.lines().count() <= 32, "{text}");
    }

    #[test]
    fn numbers_are_easy_on_the_eye() {
        assert_eq!(Grouped(0).to_string(), "0");
        assert_eq!(Grouped(999).to_string(), "999");
        assert_eq!(Grouped(1_234_567).to_string(), "1 234 567");
        assert_eq!(Size(46.0).to_string(), "46 bytes");
        assert_eq!(Size(999_950.0).to_string(), "1.0 MB");
        assert_eq!(Size(2.5e9).to_string(), "2.5 GB");
        assert_eq!(Length(Duration::from_micros(999_960)).to_string(), "1.00 s");
        assert_eq!(Length(Duration::from_micros(420)).to_string(), "0.4 ms");
    }
}
