//! `scrapegate demo`: a complete setup in one process, without permanent files.
//!
//! Creates temporary certificates in a private folder, starts a synthetic exporter and the real
//! proxy, scrapes once through the proxy, and prints the figures and some commands to try.

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
    exporter::{NAME, SyntheticExporter},
    report::{Introduction, Outcome},
};
use super::{
    client::{self, ClientRequest},
    exit,
    stop::StopSignal,
    throwaway::{self, Certificates, RunningProxy, TemporaryFiles, reachable},
};
use crate::common::exporter::UpstreamTls;

/// The default listen address: the agent's port, on loopback.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3333);

/// Arguments of `demo`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Address and port of the proxy [default: 127.0.0.1:3333, or a free port if 3333 is in use]
    #[arg(long, value_name = "ADDR:PORT", value_parser = super::listen::address)]
    listen: Option<SocketAddr>,
    /// Number of series that the exporter has
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    series: u64,
}

/// Why the demo failed. The temporary folder is removed in any case.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot install the signal handlers")]
    Signals(#[source] io::Error),
    #[error("cannot start the synthetic exporter")]
    Exporter(#[source] io::Error),
    #[error(transparent)]
    Proxy(#[from] throwaway::Error),
    #[error("cannot remove the temporary folder")]
    Remove(#[source] io::Error),
    #[error("the scrape through the proxy failed")]
    Scrape(#[source] client::Error),
    #[error("received only {received} of {series} series through the proxy")]
    Miscounted { series: u64, received: u64 },
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl Error {
    /// 71 if the system refuses a thread or the output, 1 if it refuses anything else, 70 for an
    /// internal error.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Signals(_) | Self::Exporter(_) | Self::Remove(_) => exit::FAILURE,
            Self::Output(_) | Self::Proxy(throwaway::Error::Threads(_)) => exit::SYSTEM,
            Self::Proxy(error) if error.is_system_error() => exit::FAILURE,
            Self::Proxy(_) | Self::Scrape(_) | Self::Miscounted { .. } => exit::INTERNAL,
        }
    }
}

/// Runs the demo until Ctrl-C, `SIGTERM` or `SIGHUP`.
///
/// # Errors
/// If a part does not start or the scrape is not complete. The temporary folder is removed in any
/// case, also if the future is dropped.
pub(crate) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    run_in(&std::env::temp_dir(), args, out).await
}

async fn run_in(parent: &Path, args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    // Install this first, so that a signal cannot end the process before the folder is removed.
    let mut stop = StopSignal::install().map_err(Error::Signals)?;
    let exporter = SyntheticExporter::bind(args.series).await.map_err(Error::Exporter)?;
    let listen = args.listen.unwrap_or(DEFAULT_LISTEN);
    let certificates = Certificates::generate("scrapegate demo", listen.ip())?;
    let exporters = exporters_ini(exporter.address());
    let files = TemporaryFiles::write(parent, &certificates, listen, &exporters)
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
    // Stop the proxy before its certificates are removed. A second signal does not wait for that.
    tokio::select! {
        () = proxy.stop() => {}
        () = stop.received() => {}
    }
    let removed = files.remove().map_err(Error::Remove);
    shown?;
    removed?;
    writeln!(out, "\nStopped. Removed {}.", introduction.folder.display()).map_err(Error::Output)
}

/// Starts the proxy on `listen`, else on the default port or, if that is in use, on any free port.
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
# Created by scrapegate, which removes this file when it exits.

[{NAME}]
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

/// Prints the setup, scrapes, prints the figures and the commands to try, then waits forever.
async fn show(
    introduction: &Introduction,
    proxy: SocketAddr,
    tls: Arc<ClientConfig>,
    out: &mut (dyn Write + Send),
) -> Result<Infallible, Error> {
    let address = SocketAddr::new(reachable(proxy.ip()), proxy.port());
    write_now(out, &introduction.of_proxy(address))?;
    let server_name = ServerName::IpAddress(address.ip().into());
    let request = ClientRequest {
        host: address.ip().to_string(),
        port: address.port(),
        tls: Some(UpstreamTls { config: tls, server_name }),
        path_and_query: format!("/prometheus?exporter={NAME}"),
        authorization: None,
        limit: None,
    };
    let scraped = scrape::scrape(&request).await.map_err(Error::Scrape)?;
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
