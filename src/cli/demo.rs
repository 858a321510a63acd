//! `scrapegate demo`: everything at once and nothing left behind.
//!
//! A throw-away CA and certificates in a private temporary folder, a synthetic exporter, the real
//! proxy in front of it, one scrape through it with its figures, and what to try next.

mod exporter;
mod report;
mod scrape;

use std::{
    convert::Infallible,
    future::pending,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::task::JoinSet;

use self::{
    exporter::SyntheticExporter,
    report::{Introduction, Outcome},
};
use super::{
    client::{self, Question},
    exit,
    stop::StopSignal,
    throwaway::{self, Certificates, Files, RunningProxy, reachable},
};
use crate::exporter::UpstreamTls;

/// Where the proxy listens unless told otherwise: the agent's port, on loopback.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3333);

/// The exporter's name.
const EXPORTER: &str = "demo";

/// Shows the proxy at work, with throw-away certificates and a synthetic exporter; leaves nothing
/// behind.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Where the proxy listens [default: 127.0.0.1:3333, or a free port if that is taken]
    #[arg(long, value_name = "ADDR:PORT", value_parser = super::listen::address)]
    listen: Option<SocketAddr>,
    /// How many series the exporter has
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    series: u64,
}

/// Why the demo came to an early end. The folder is gone all the same.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("cannot start the synthetic exporter")]
    Exporter(#[source] io::Error),
    #[error(transparent)]
    Proxy(#[from] throwaway::Error),
    #[error("cannot remove the temporary folder")]
    Remove(#[source] io::Error),
    #[error("the scrape through the proxy failed")]
    Scrape(#[source] client::Error),
    #[error("{received} of {series} series came through the proxy")]
    Miscounted { series: u64, received: u64 },
    #[error("cannot write to the standard output")]
    Output(#[source] io::Error),
}

impl Error {
    /// 71 when the system refuses threads or the output, 1 for what else it refuses, 70 for a mistake
    /// of ours.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Signals(_) | Self::Exporter(_) | Self::Remove(_) => exit::MISTAKES,
            Self::Output(_) | Self::Proxy(throwaway::Error::Threads(_)) => exit::SYSTEM,
            Self::Proxy(error) if error.is_of_the_system() => exit::MISTAKES,
            Self::Proxy(_) | Self::Scrape(_) | Self::Miscounted { .. } => exit::INTERNAL,
        }
    }
}

/// Runs the demo until Ctrl-C, `SIGTERM` or `SIGHUP`.
///
/// # Errors
/// When something does not start or the scrape is not complete. The temporary folder is removed in
/// any case, and when the future is dropped.
pub(crate) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    run_in(&std::env::temp_dir(), args, out).await
}

async fn run_in(parent: &Path, args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    // First of all: a signal must not end the process while there is a folder to remove.
    let mut stop = StopSignal::install().map_err(Error::Signals)?;
    let exporter = SyntheticExporter::bind(args.series).await.map_err(Error::Exporter)?;
    let listen = args.listen.unwrap_or(DEFAULT_LISTEN);
    let certificates = Certificates::generate("scrapegate demo", listen.ip())?;
    let exporters = exporters_ini(exporter.address());
    let files = Files::write(parent, &certificates, listen, &exporters)
        .map_err(throwaway::Error::Folder)?;
    let introduction = Introduction {
        folder: files.folder().to_owned(),
        exporter: exporter.address(),
        series: args.series,
    };
    let mut background = JoinSet::new();
    background.spawn(exporter.serve());
    let config_file = files.config();
    let proxy = start(&config_file, args.listen)?;
    let tls = certificates.client_config()?;
    let shown = tokio::select! {
        shown = show(&introduction, proxy.address(), tls, out) => match shown {
            Ok(never) => match never {},
            Err(error) => Err(error),
        },
        () = stop.received() => Ok(()),
    };
    // The proxy ends before its certificates go. Whoever asks twice does not wait for it.
    tokio::select! {
        () = proxy.stop() => {}
        () = stop.received() => {}
    }
    let removed = files.remove().map_err(Error::Remove);
    shown?;
    removed?;
    writeln!(out, "\nStopped; {} is gone.", introduction.folder.display()).map_err(Error::Output)
}

/// Starts the proxy where `listen` says; without it, on the default port or any free one.
fn start(config_file: &Path, listen: Option<SocketAddr>) -> Result<RunningProxy, throwaway::Error> {
    let start_on = |listen| {
        let (config, assets) = throwaway::load(config_file, listen)?;
        RunningProxy::start(&config, assets)
    };
    match start_on(listen.unwrap_or(DEFAULT_LISTEN)) {
        Err(throwaway::Error::Listen { source, .. })
            if listen.is_none() && source.kind() == io::ErrorKind::AddrInUse =>
        {
            start_on(SocketAddr::new(DEFAULT_LISTEN.ip(), 0))
        }
        started => started,
    }
}

fn exporters_ini(exporter: SocketAddr) -> String {
    format!(
        "\
# Written by scrapegate, which removes it when it ends.

[{EXPORTER}]
enabled = True
method = http
host = {host}
port = {port}
path = /metrics
interval = 60
timeout = 60
",
        host = exporter.ip(),
        port = exporter.port(),
    )
}

/// Says what is there, scrapes, says how it went and what to try, and never comes back.
async fn show(
    introduction: &Introduction,
    proxy: SocketAddr,
    tls: Arc<ClientConfig>,
    out: &mut (dyn Write + Send),
) -> Result<Infallible, Error> {
    let address = SocketAddr::new(reachable(proxy.ip()), proxy.port());
    write_now(out, &introduction.of_proxy(address))?;
    let server_name = ServerName::IpAddress(address.ip().into());
    let question = Question {
        host: address.ip().to_string(),
        port: address.port(),
        tls: Some(UpstreamTls { config: tls, server_name }),
        path_and_query: format!("/prometheus?exporter={EXPORTER}"),
        authorization: None,
        limit: None,
    };
    let scraped = scrape::scrape(&question).await.map_err(Error::Scrape)?;
    if scraped.samples != introduction.series {
        return Err(Error::Miscounted { series: introduction.series, received: scraped.samples });
    }
    let outcome = Outcome { scraped: &scraped, folder: &introduction.folder, proxy: address };
    write_now(out, &outcome.to_string())?;
    pending().await
}

fn write_now(out: &mut (dyn Write + Send), text: &str) -> Result<(), Error> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_demo_that_cannot_start_leaves_nothing_behind() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let parent = tempfile::tempdir().expect("a temporary folder");
        let args = Args { listen: Some(taken.local_addr().expect("an address")), series: 1 };
        let outcome = run_in(parent.path(), &args, &mut Vec::new()).await;
        assert!(
            matches!(outcome, Err(Error::Proxy(throwaway::Error::Listen { .. }))),
            "{outcome:?}"
        );
        let left = std::fs::read_dir(parent.path()).expect("the folder").count();
        assert_eq!(left, 0);
    }
}
