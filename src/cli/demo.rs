//! `scrapegate demo`: everything at once and nothing left behind.
//!
//! A throw-away CA and certificates in a private temporary folder, a synthetic exporter, the real
//! proxy in front of it, one scrape through it with its figures, and what to try next.

mod exporter;
mod files;
mod report;
mod scrape;

use std::{
    convert::Infallible,
    future::pending,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, crypto::aws_lc_rs::default_provider, pki_types::ServerName,
};
use tokio::task::JoinSet;

use self::{
    exporter::SyntheticExporter,
    files::Files,
    report::{Introduction, Outcome},
};
use super::run::load;
use crate::{
    config::Sources,
    pki::{self, Authority, Pair, Validity},
    server::{Handle, Server, StartError},
};

/// Where the proxy listens unless told otherwise: the agent's port, on loopback.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3333);

/// The exporter's name.
const EXPORTER: &str = "demo";

/// Shows the proxy at work, with throw-away certificates and a synthetic exporter; leaves nothing
/// behind.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Where the proxy listens [default: 127.0.0.1:3333, or a free port if that is taken]
    #[arg(long, value_name = "ADDR:PORT")]
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
    Pki(#[from] pki::Error),
    #[error("cannot write to a temporary folder")]
    Folder(#[source] io::Error),
    #[error("cannot remove the temporary folder")]
    Remove(#[source] io::Error),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot start the proxy")]
    Proxy(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot set up TLS for the scrape")]
    Tls(#[from] rustls::Error),
    #[error("the scrape through the proxy failed")]
    Scrape(#[source] scrape::Error),
    #[error("{received} of {series} series came through the proxy")]
    Miscounted { series: u64, received: u64 },
    #[error("cannot write to the standard output")]
    Output(#[source] io::Error),
}

impl Error {
    /// 1 for what the machine refuses, 70 for a mistake of ours.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Signals(_)
            | Self::Exporter(_)
            | Self::Folder(_)
            | Self::Remove(_)
            | Self::Listen { .. }
            | Self::Output(_) => 1,
            Self::Pki(_)
            | Self::Proxy(_)
            | Self::Tls(_)
            | Self::Scrape(_)
            | Self::Miscounted { .. } => 70,
        }
    }
}

/// The proxy of the demo, in this process. Dropping it ends it at once.
struct RunningProxy {
    address: SocketAddr,
    handle: Handle,
    server: JoinSet<()>,
}

impl RunningProxy {
    /// Where it listens, with the port it got if it was asked for port 0.
    fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it. Dropped half-way, it ends without finishing scrapes in flight.
    async fn stop(mut self) {
        self.handle.shut_down();
        while self.server.join_next().await.is_some() {}
    }
}

/// Starts the proxy on `config_file`, which is what `scrapegate run -c` would read, but on
/// `listen`.
///
/// A port that is taken is [`Error::Listen`] with [`io::ErrorKind::AddrInUse`].
fn start_proxy(config_file: &Path, listen: SocketAddr) -> Result<RunningProxy, Error> {
    let sources =
        Sources { config: Some(config_file.to_owned()), exporters: None, listen: Some(listen) };
    let (loaded, findings) = load(&sources);
    let (config, assets) = loaded.ok_or_else(|| Error::Proxy(findings.into()))?;
    let server = Server::bind(&config, assets).map_err(|error| match error {
        StartError::Listen { address, source } => Error::Listen { address, source },
        StartError::Workers(_) => Error::Proxy(error.into()),
    })?;
    let (address, handle) = (server.address(), server.handle());
    let mut running = JoinSet::new();
    running.spawn(server.run());
    Ok(RunningProxy { address, handle, server: running })
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
    let authority = Authority::generate("scrapegate demo CA", Validity::OneDay)?;
    let server = authority.server_pair(&hosts(listen.ip()))?;
    let client = authority.client_pair("scrapegate demo")?;
    let files = Files::write(parent, &authority, &server, &client, listen, exporter.address())
        .map_err(Error::Folder)?;
    let introduction = Introduction {
        folder: files.folder().to_owned(),
        exporter: exporter.address(),
        series: args.series,
    };
    let mut background = JoinSet::new();
    background.spawn(exporter.serve());
    let config_file = files.config();
    let proxy = start(&config_file, args.listen)?;
    let tls = client_config(&authority, &client)?;
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
fn start(config_file: &Path, listen: Option<SocketAddr>) -> Result<RunningProxy, Error> {
    match start_proxy(config_file, listen.unwrap_or(DEFAULT_LISTEN)) {
        Err(Error::Listen { source, .. })
            if listen.is_none() && source.kind() == io::ErrorKind::AddrInUse =>
        {
            start_proxy(config_file, SocketAddr::new(DEFAULT_LISTEN.ip(), 0))
        }
        started => started,
    }
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
    let name = ServerName::IpAddress(address.ip().into());
    let path = format!("/prometheus?exporter={EXPORTER}");
    let figures = scrape::scrape(address, name, tls, &path).await.map_err(Error::Scrape)?;
    if figures.samples != introduction.series {
        return Err(Error::Miscounted { series: introduction.series, received: figures.samples });
    }
    let outcome = Outcome { figures: &figures, folder: &introduction.folder, proxy: address };
    write_now(out, &outcome.to_string())?;
    pending().await
}

fn write_now(out: &mut (dyn Write + Send), text: &str) -> Result<(), Error> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
}

/// The address under which this host reaches what listens on `listen`.
fn reachable(listen: IpAddr) -> IpAddr {
    match listen {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => listen,
    }
}

/// What the server's certificate is valid for.
fn hosts(listen: IpAddr) -> Vec<String> {
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
    let address = reachable(listen).to_string();
    if !hosts.contains(&address) {
        hosts.push(address);
    }
    hosts
}

fn client_config(authority: &Authority, client: &Pair) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.pair().certificate())?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![client.certificate()], client.key())?;
    Ok(Arc::new(config))
}

/// Ctrl-C, `SIGTERM` and, because a closed terminal would leave the folder, `SIGHUP`.
#[cfg(unix)]
struct StopSignal([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl StopSignal {
    fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the next one. Loses nothing when dropped.
    async fn received(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
struct StopSignal;

#[cfg(not(unix))]
impl StopSignal {
    fn install() -> io::Result<Self> {
        Ok(Self)
    }

    async fn received(&mut self) {
        // Without a handler Ctrl-C ends the process by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    }
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
        assert!(matches!(outcome, Err(Error::Listen { .. })), "{outcome:?}");
        let left = std::fs::read_dir(parent.path()).expect("the folder").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn the_certificate_is_valid_for_the_address_that_is_scraped() {
        for (listen, scraped, names) in [
            ("127.0.0.1", "127.0.0.1", 3),
            ("0.0.0.0", "127.0.0.1", 3),
            ("::", "::1", 3),
            ("192.0.2.7", "192.0.2.7", 4),
        ] {
            let listen: IpAddr = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), scraped);
            assert!(hosts(listen).contains(&scraped.to_owned()), "{listen}");
            assert_eq!(hosts(listen).len(), names, "{listen}");
        }
    }
}
