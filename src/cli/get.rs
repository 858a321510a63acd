//! `scrapegate get`: one scrape through a running proxy, as Prometheus does it.
//!
//! Writes the body piece by piece. Only the current piece is in memory.

mod advice;
mod error;
mod output;
mod progress;

use std::{
    fmt,
    io::{self, IsTerminal as _},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{Uri, header::HeaderValue, http::uri::Scheme};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::ServerName;

use self::{advice::Advice, error::Error, output::Output, progress::Progress};
use super::{
    client::{ClientRequest, Figures},
    console::complain,
    exit,
    figures::{Length, Rate, Size},
    runtime,
    stop::StopSignal,
};
use crate::{
    common::{error::Chain, exporter::UpstreamTls},
    config::{Diagnostic, Diagnostics, Located, Location, UpstreamTlsConfig},
    http::discovery::METRICS_PATH,
    service::assets,
};

/// Arguments of `get`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Name of the exporter, as listed at /prometheus
    name: String,
    /// URL of the proxy: https://HOST:PORT. Can have a path other than /prometheus, and parameters
    /// for the exporter, for example https://node1:3333/prometheus?collect[]=cpu
    #[arg(long, value_name = "URL", value_parser = proxy_url)]
    url: ProxyUrl,
    /// Client certificate and its intermediates, PEM. Required unless the proxy has `client-auth =
    /// none`
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of --cert, PEM. Must not be readable by all users
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// CA certificates to verify the proxy's certificate with, PEM [default: the system's CAs]
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Do not verify the proxy's certificate. Anyone on the path can then pose as the proxy
    #[arg(long, conflicts_with = "cacert")]
    insecure: bool,
    /// User name for HTTP Basic, if the proxy has `auth`. Sent in addition to the client
    /// certificate
    #[arg(long, value_name = "NAME", requires = "password_file", value_parser = user_name)]
    user: Option<String>,
    /// File with the password of --user. Must not be readable by all users
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Write the body to this file. The file appears only if the body is complete [default:
    /// standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Number of scrapes (1 to 10000), each on a new connection. Only the first body is written.
    /// With more than one, prints minimum, median, 99th percentile and maximum
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// Time limit for one scrape, in seconds (1 to 86400). Tells the proxy to give up slightly
    /// earlier, so that its error answer still arrives
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,
}

/// The parsed URL of the proxy.
#[derive(Clone, Debug)]
struct ProxyUrl {
    /// `false` for plain HTTP.
    is_https: bool,
    /// Without brackets.
    host: String,
    port: u16,
    path: String,
    /// Parameters for the exporter, without `exporter`.
    query: Option<String>,
}

/// A user name for HTTP Basic. It ends at the first colon, so it cannot contain one (RFC 7617 §2).
fn user_name(text: &str) -> Result<String, &'static str> {
    let is_name = !text.is_empty() && !text.contains(':') && !text.contains(char::is_control);
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("a user name must not be empty or contain a colon")
    }
}

fn proxy_url(text: &str) -> Result<ProxyUrl, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "not a URL")?;
    let is_https = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        Some(_) | None => return Err("the URL must begin with https:// or http://"),
    };
    let authority = uri.authority().ok_or("the host is missing")?;
    if authority.as_str().contains('@') {
        return Err("the URL must not contain a user or password; use --user and --password-file");
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Ok(ProxyUrl {
        is_https,
        host: host.to_owned(),
        port: uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
        path: if uri.path() == "/" { METRICS_PATH } else { uri.path() }.to_owned(),
        query: uri.query().map(str::to_owned),
    })
}

/// Runs `get`. The exit code is 0 if each body was complete.
pub(super) fn run(args: &Args) -> ExitCode {
    let runtime = match runtime::current_thread() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("cannot start the runtime: {error}"));
            return exit::SYSTEM.into();
        }
    };
    match runtime.block_on(get(args)) {
        Ok(scrapes) => {
            for line in scrapes.report() {
                complain(line);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            if !error.is_closed_output() {
                let Advice { side, hint } = Advice::about(&error);
                complain(format_args!("{side}: {}", Chain(&error)));
                complain(format_args!("hint: {hint}"));
            }
            exit::FAILURE.into()
        }
    }
}

async fn get(args: &Args) -> Result<Scrapes, Error> {
    // Install this first, so that a signal cannot end the process before temporary files are
    // removed.
    let mut stop = StopSignal::install().map_err(Error::Signals)?;
    let request = request(args)?;
    tokio::select! {
        scrapes = scrape_all(args, &request) => scrapes,
        () = stop.received() => Err(Error::Interrupted),
    }
}

fn request(args: &Args) -> Result<ClientRequest, Error> {
    let ProxyUrl { is_https, host, port, path, query } = args.url.clone();
    let name = utf8_percent_encode(&args.name, NON_ALPHANUMERIC);
    let query = query.map_or_else(String::new, |query| format!("&{query}"));
    Ok(ClientRequest {
        authorization: authorization(args, is_https || is_loopback(&host))?,
        tls: is_https.then(|| tls(args, &host)).transpose()?,
        host,
        port,
        path_and_query: format!("{path}?exporter={name}{query}"),
        limit: Some(Duration::from_secs(args.timeout.into())),
    })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn authorization(args: &Args, is_safe: bool) -> Result<Option<HeaderValue>, Error> {
    let Some((user, file)) = args.user.as_ref().zip(args.password_file.as_ref()) else {
        return Ok(None);
    };
    if !is_safe {
        return Err(Error::OpenPassword);
    }
    let password = named("--password-file", file.clone());
    let (value, diagnostics) = assets::basic_authorization(user, &password);
    usable(value, &diagnostics).map(Some)
}

fn tls(args: &Args, host: &str) -> Result<UpstreamTls, Error> {
    let server_name =
        ServerName::try_from(host.to_owned()).map_err(|_| Error::ServerName(host.to_owned()))?;
    let pair = args.cert.as_ref().zip(args.key.as_ref());
    let files = UpstreamTlsConfig {
        ca: args.cacert.as_ref().map(|path| named("--cacert", path.clone())),
        client_pair: pair
            .map(|(cert, key)| (named("--cert", cert.clone()), named("--key", key.clone()))),
        server_name,
        skip_verify: args.insecure,
    };
    let (tls, diagnostics) = assets::client_tls(&files, &named("--cacert", ()));
    usable(tls, &diagnostics)
}

/// The value made from files on the command line, or an error that lists their diagnostics.
fn usable<T>(made: Option<T>, diagnostics: &Diagnostics) -> Result<T, Error> {
    let message = |diagnostic: &Diagnostic| {
        let option = diagnostic.location.key.as_deref().unwrap_or_default();
        format!("{option}: {}", diagnostic.message)
    };
    if made.is_some() {
        diagnostics
            .iter()
            .for_each(|diagnostic| complain(format_args!("warning: {}", message(diagnostic))));
    }
    made.ok_or_else(|| Error::File(diagnostics.iter().map(message).collect::<Vec<_>>().join("; ")))
}

/// A value from the command line, with the option as its location.
fn named<T>(option: &str, value: T) -> Located<T> {
    let key = Some(option.to_owned());
    Located { value, location: Location { file: Arc::default(), line: None, section: None, key } }
}

async fn scrape_all(args: &Args, request: &ClientRequest) -> Result<Scrapes, Error> {
    let mut all = Vec::new();
    let mut output = Some(Output::open(args.output.as_deref())?);
    for _ in 0..args.repeat {
        let shown = io::stderr().is_terminal()
            && (args.output.is_some() || args.repeat > 1 || !io::stdout().is_terminal());
        let figures = scrape(request, &mut output, Progress::new(shown)).await?;
        if let Some(output) = output.take() {
            output.finish()?;
        }
        all.push(figures);
    }
    Ok(Scrapes(all))
}

/// Scrapes once. Writes the body to `output`, if there is one.
async fn scrape(
    request: &ClientRequest,
    output: &mut Option<Output>,
    mut progress: Progress,
) -> Result<Figures, Error> {
    let mut answer = request.send().await.map_err(Error::Scrape)?;
    let length = answer.length();
    let mut written = Duration::ZERO;
    loop {
        let data = match answer.next().await {
            Ok(Some(data)) => data,
            Ok(None) => return Ok(answer.figures()),
            // While this process waits for its output, the proxy and the exporter wait too.
            Err(source) if written > answer.figures().total / 2 => {
                return Err(Error::SlowOutput { written, source });
            }
            Err(source) => return Err(Error::Scrape(source)),
        };
        progress.advance(data.len(), length, answer.figures().first_byte);
        if let Some(output) = output {
            let begun = Instant::now();
            output.write(&data)?;
            written += begun.elapsed();
        }
    }
}

/// The figures of all scrapes, at least one.
#[derive(Debug)]
struct Scrapes(Vec<Figures>);

impl Scrapes {
    fn report(&self) -> Vec<String> {
        match self.0.as_slice() {
            [Figures { bytes, first_byte, total }] => vec![format!(
                "complete: {} in {}, {}; first byte after {}",
                Size(*bytes as f64),
                Length(*total),
                Rate(*bytes, *total),
                Length(*first_byte)
            )],
            all => {
                let bytes: u64 = all.iter().map(|figures| figures.bytes).sum();
                let spread = |of: fn(&Figures) -> Duration| Spread::of(all.iter().map(of));
                vec![
                    format!("complete: {} scrapes, {} in all", all.len(), Size(bytes as f64)),
                    format!("first byte: {}", spread(|figures| figures.first_byte)),
                    format!("total: {}", spread(|figures| figures.total)),
                ]
            }
        }
    }
}

/// Durations in ascending order.
struct Spread(Vec<Duration>);

impl Spread {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.collect();
        times.sort();
        Self(times)
    }

    /// The percentile, by the nearest-rank method.
    fn percentile(&self, percent: usize) -> Length {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        Length(self.0.get(rank - 1).copied().unwrap_or_default())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, median, p99, max] = [0, 50, 99, 100].map(|percent| self.percentile(percent));
        write!(f, "min {min}, median {median}, p99 {p99}, max {max}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_host_port_path_and_parameters() {
        for (text, host, port, path, query) in [
            ("https://h:3333", "h", 3333, "/prometheus", None),
            ("https://h", "h", 443, "/prometheus", None),
            ("http://[::1]:80/", "::1", 80, "/prometheus", None),
            ("https://h:1/x/prometheus?a[]=b", "h", 1, "/x/prometheus", Some("a[]=b")),
        ] {
            let url = proxy_url(text).expect(text);
            assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
            assert_eq!((url.path.as_str(), url.query.as_deref()), (path, query), "{text}");
            assert_eq!(url.is_https, text.starts_with("https"), "{text}");
        }
        for text in ["h:3333", "h", "", "ftp://h", "https://me:secret@h", "https://"] {
            assert!(proxy_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn percentiles_are_measured_times() {
        let spread = Spread::of((1..=200).rev().map(Duration::from_millis));
        assert_eq!(spread.to_string(), "min 1.0 ms, median 100.0 ms, p99 198.0 ms, max 200.0 ms");
        let one = Spread::of([Duration::from_secs(2)].into_iter());
        assert_eq!(one.to_string(), "min 2.00 s, median 2.00 s, p99 2.00 s, max 2.00 s");
    }
}
