//! The compared proxies, each configured as well as its manual allows.

use std::{
    env,
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use scrapegate_harness::side_by_side::{
    credentials::Credentials, network::Place, process::Processes,
};

use crate::{
    Result,
    exporter::Exporter,
    floor::{Floor, READ_SIZES},
    workload::{SOURCES, Source, Unit, Workload, source},
};

/// The column of the floor program.
pub(crate) const FLOOR: &str = "floor";

/// The program of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Scrapegate { binary: PathBuf },
    Nginx { upstream_keep_alive: bool },
    Haproxy,
    Caddy,
    ExporterExporter,
    Floor { read_size: usize },
}

/// One column of the table.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    name: String,
    pub(crate) kind: Kind,
    /// The version that the program reports.
    pub(crate) version: String,
}

/// A running peer.
pub(crate) struct Running {
    pub(crate) processes: Processes,
    pub(crate) address: SocketAddr,
}

impl Peer {
    /// All peers that this machine has. Names the missing ones and their Debian packages.
    pub(crate) fn all(also: &[String]) -> Result<Vec<Self>> {
        let ours = PathBuf::from(env!("CARGO_BIN_EXE_scrapegate"));
        let mut wanted = vec![("scrapegate".to_owned(), Kind::Scrapegate { binary: ours })];
        for build in also {
            let (name, path) = build.split_once('=').ok_or("--also requires NAME=PATH")?;
            wanted.push((name.to_owned(), Kind::Scrapegate { binary: path.into() }));
        }
        wanted.extend([
            ("nginx".to_owned(), Kind::Nginx { upstream_keep_alive: true }),
            ("nginx-reconnect".to_owned(), Kind::Nginx { upstream_keep_alive: false }),
            ("haproxy".to_owned(), Kind::Haproxy),
            ("caddy".to_owned(), Kind::Caddy),
            ("exporter_exporter".to_owned(), Kind::ExporterExporter),
        ]);
        wanted.extend(
            READ_SIZES.map(|read_size| {
                (format!("{FLOOR}-{}k", read_size >> 10), Kind::Floor { read_size })
            }),
        );
        let mut found = Vec::new();
        for (name, kind) in wanted {
            match kind.version() {
                Some(version) => found.push(Self { name, kind, version }),
                None => eprintln!(
                    "MISSING: {name} is not compared; install the Debian package {}",
                    kind.debian_package()
                ),
            }
        }
        Ok(found)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The column of the tables: its name, or the one column of the floor's read sizes.
    pub(crate) fn column(&self) -> &str {
        if self.floor_read_size().is_some() { FLOOR } else { &self.name }
    }

    /// Size of one read in bytes, if this is the floor program.
    pub(crate) fn floor_read_size(&self) -> Option<usize> {
        match self.kind {
            Kind::Floor { read_size } => Some(read_size),
            Kind::Scrapegate { .. }
            | Kind::Nginx { .. }
            | Kind::Haproxy
            | Kind::Caddy
            | Kind::ExporterExporter => None,
        }
    }

    /// The path at which the peer serves a source.
    pub(crate) fn path(&self, source: &Source) -> String {
        match self.kind {
            Kind::Scrapegate { .. } => format!("/prometheus?exporter={}", source.name),
            Kind::ExporterExporter => format!("/proxy?module={}", source.name),
            Kind::Nginx { .. } | Kind::Haproxy | Kind::Caddy | Kind::Floor { .. } => {
                format!("/{}", source.name)
            }
        }
    }

    /// Whether the peer supports the workload, and whether the result is meaningful. For example,
    /// how nginx connects to the exporter does not matter for large bodies.
    pub(crate) fn takes_part_in(&self, workload: &Workload) -> bool {
        match self.kind {
            Kind::Floor { .. } => !source(workload.source).https,
            Kind::Nginx { upstream_keep_alive: false } => workload.unit == Unit::PerRequest,
            Kind::Scrapegate { .. }
            | Kind::Nginx { upstream_keep_alive: true }
            | Kind::Haproxy
            | Kind::Caddy
            | Kind::ExporterExporter => true,
        }
    }

    /// Whether the peer is scrapegate. Its errors are errors of the bench.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Scrapegate { .. })
    }

    /// Starts the peer in front of the exporter, on the host.
    pub(crate) fn start(
        &self,
        place: &Place,
        exporter: &Exporter,
        credentials: &Credentials,
    ) -> Result<Running> {
        place.on_host(|| self.start_here(place.address(), exporter, credentials))
    }

    fn start_here(
        &self,
        address: IpAddr,
        exporter: &Exporter,
        credentials: &Credentials,
    ) -> Result<Running> {
        let address = free_address(address)?;
        let folder = credentials.folder().join(&self.name);
        fs::create_dir_all(&folder)?;
        let site = Site { address, exporter, credentials: credentials.folder(), folder: &folder };
        let command = match &self.kind {
            Kind::Scrapegate { binary } => site.scrapegate(binary)?,
            Kind::Nginx { upstream_keep_alive } => site.nginx(*upstream_keep_alive)?,
            Kind::Haproxy => site.haproxy()?,
            Kind::Caddy => site.caddy()?,
            Kind::ExporterExporter => site.exporter_exporter()?,
            Kind::Floor { read_size } => site.floor(*read_size)?,
        };
        let processes = Processes::start(command, address, &folder.join("log"))?;
        Ok(Running { processes, address })
    }
}

impl Kind {
    fn version(&self) -> Option<String> {
        let output = |program: &str, argument: &str| {
            let output = Command::new(program).arg(argument).output().ok()?;
            let text = [output.stdout, output.stderr].concat();
            let line = String::from_utf8_lossy(&text).lines().next()?.trim().to_owned();
            output.status.success().then_some(line)
        };
        match self {
            Self::Scrapegate { binary } => output(binary.to_str()?, "--version"),
            Self::Nginx { .. } => output("nginx", "-v").or_else(|| output("/usr/sbin/nginx", "-v")),
            Self::Haproxy => output("haproxy", "-v").or_else(|| output("/usr/sbin/haproxy", "-v")),
            Self::Caddy => output("caddy", "version"),
            Self::ExporterExporter => output("dpkg-query", "--version")
                .and_then(|_| package_version("prometheus-exporter-exporter")),
            Self::Floor { .. } => Some("read, encrypt, write".to_owned()),
        }
    }

    fn debian_package(&self) -> &'static str {
        match self {
            Self::Scrapegate { .. } | Self::Floor { .. } => "none",
            Self::Nginx { .. } => "nginx-light",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
            Self::ExporterExporter => "prometheus-exporter-exporter",
        }
    }
}

fn package_version(package: &str) -> Option<String> {
    let arguments = ["--show", "--showformat=${Version}", package];
    let output = Command::new("dpkg-query").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn free_address(address: IpAddr) -> Result<SocketAddr> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?)
}

/// The listening address of a peer, its exporter, and the folders of its files.
struct Site<'a> {
    address: SocketAddr,
    exporter: &'a Exporter,
    credentials: &'a Path,
    folder: &'a Path,
}

impl Site<'_> {
    fn write(&self, file: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(file);
        fs::write(&path, text)?;
        Ok(path)
    }

    fn scrapegate(&self, binary: &Path) -> Result<Command> {
        let credentials = self.credentials.display();
        let config = self.write(
            "config.ini",
            &format!(
                "[default]\ncertfile = {credentials}/server.pem\nkeyfile = {credentials}/server.key\n\
                 [prometheus]\nexporters = exporters.ini\n[proxy]\nclient-ca = {credentials}/ca.pem\n\
                 max-connections-per-ip = 4096\n"
            ),
        )?;
        let mut exporters = String::new();
        for source in SOURCES {
            let (method, extra) = if source.https {
                ("https", "insecure-skip-verify = True\n")
            } else {
                ("http", "")
            };
            let exporter = self.exporter.address(source);
            let (host, port) = (exporter.ip(), exporter.port());
            let name = source.name;
            let _ = write!(
                exporters,
                "[{name}]\nenabled = True\nmethod = {method}\nhost = {host}\nport = {port}\n\
                 path = /{name}\ninterval = 60\ntimeout = 60\nmax-concurrent = 1000\n{extra}"
            );
        }
        self.write("exporters.ini", &exporters)?;
        let mut command = Command::new(binary);
        command.arg("--config").arg(config).arg("--listen").arg(self.address.to_string());
        // The other peers write no access log either.
        command.env("SCRAPEGATE_LOG", "error");
        Ok(command)
    }

    fn nginx(&self, upstream_keep_alive: bool) -> Result<Command> {
        let (credentials, folder) = (self.credentials.display(), self.folder.display());
        let Self { address, exporter, .. } = self;
        let (keep_alive, connection) =
            if upstream_keep_alive { ("keepalive 64;", "\"\"") } else { ("", "close") };
        let https =
            SOURCES.iter().filter(|source| source.https).fold(String::new(), |mut all, source| {
                let _ = writeln!(
                    all,
                    "location = /{} {{ proxy_pass https://https_exporter; }}",
                    source.name
                );
                all
            });
        let config = self.write(
            "nginx.conf",
            &format!(
                "daemon off; user root; worker_processes auto; pid {folder}/pid; error_log stderr crit;\n\
                 events {{ worker_connections 4096; }}\n\
                 http {{\n\
                 access_log off; gzip off; tcp_nodelay on;\n\
                 client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
                 fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
                 scgi_temp_path {folder}/scgi;\n\
                 upstream exporter {{ server {http}; {keep_alive} }}\n\
                 upstream https_exporter {{ server {https_address}; {keep_alive} }}\n\
                 proxy_http_version 1.1; proxy_set_header Connection {connection};\n\
                 proxy_buffers 8 128k; proxy_buffer_size 128k; proxy_busy_buffers_size 256k;\n\
                 proxy_max_temp_file_size 0; proxy_ssl_session_reuse off;\n\
                 keepalive_requests 1000000; keepalive_timeout 300s;\n\
                 server {{\n\
                 listen {address} ssl;\n\
                 ssl_certificate {credentials}/server.pem;\n\
                 ssl_certificate_key {credentials}/server.key;\n\
                 ssl_client_certificate {credentials}/ca.pem; ssl_verify_client on;\n\
                 ssl_protocols TLSv1.3; ssl_session_cache off; ssl_session_tickets off;\n\
                 location / {{ proxy_pass http://exporter; }}\n{https}}}\n}}\n",
                http = exporter.http,
                https_address = exporter.https,
            ),
        )?;
        let mut command = Command::new(system_program("nginx"));
        command.arg("-p").arg(self.folder).arg("-c").arg(config).args(["-e", "stderr"]);
        Ok(command)
    }

    fn haproxy(&self) -> Result<Command> {
        let credentials = self.credentials.display();
        let Self { address, exporter, .. } = self;
        let https =
            SOURCES.iter().filter(|source| source.https).fold(String::new(), |mut all, source| {
                let _ = writeln!(all, " use_backend https_exporter if {{ path /{} }}", source.name);
                all
            });
        let config = self.write(
            "haproxy.cfg",
            &format!(
                "global\n tune.bufsize 131072\n tune.ssl.cachesize 0\n maxconn 4000\n\
                 defaults\n mode http\n timeout connect 5s\n timeout client 300s\n timeout server 300s\n\
                 frontend scrapers\n\
                 \x20bind {address} ssl crt {credentials}/server-both.pem ca-file {credentials}/ca.pem \
                 verify required ssl-min-ver TLSv1.3 alpn http/1.1 no-tls-tickets\n\
                 {https} default_backend exporter\n\
                 backend exporter\n server exporter {}\n\
                 backend https_exporter\n server exporter {} ssl verify none no-ssl-reuse\n",
                exporter.http, exporter.https
            ),
        )?;
        let mut command = Command::new(system_program("haproxy"));
        command.arg("-db").arg("-f").arg(config);
        Ok(command)
    }

    fn caddy(&self) -> Result<Command> {
        let credentials = self.credentials.display();
        let Self { address, exporter, .. } = self;
        let https = SOURCES.iter().filter(|source| source.https).fold(
            String::new(),
            |mut all, source| {
                let _ = writeln!(
                    all,
                    "reverse_proxy /{} https://{} {{\n transport http {{\n tls_insecure_skip_verify\n }}\n}}",
                    source.name, exporter.https
                );
                all
            },
        );
        let config = self.write(
            "Caddyfile",
            &format!(
                "{{\n admin off\n auto_https off\n log {{\n level ERROR\n }}\n\
                 servers {{\n protocols h1\n }}\n}}\n\
                 https://localhost:{port} {{\n bind {ip}\n\
                 tls {credentials}/server.pem {credentials}/server.key {{\n protocols tls1.3\n\
                 client_auth {{\n mode require_and_verify\n trusted_ca_cert_file {credentials}/ca.pem\n }}\n }}\n\
                 {https} reverse_proxy {http}\n}}\n",
                port = address.port(),
                ip = address.ip(),
                http = exporter.http,
            ),
        )?;
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
        command.env("HOME", self.folder).env("XDG_DATA_HOME", self.folder);
        Ok(command)
    }

    fn exporter_exporter(&self) -> Result<Command> {
        let mut modules = String::from("modules:\n");
        for source in SOURCES {
            let tls = if source.https {
                "      scheme: https\n      tls_insecure_skip_verify: true\n"
            } else {
                ""
            };
            let exporter = self.exporter.address(source);
            let (ip, port) = (exporter.ip(), exporter.port());
            let _ = write!(
                modules,
                "  {name}:\n    method: http\n    timeout: 60s\n    http:\n      address: {ip}\n      \
                 port: {port}\n      path: /{name}\n      verify: false\n{tls}",
                name = source.name,
            );
        }
        let config = self.write("expexp.yaml", &modules)?;
        let credentials = self.credentials.display();
        let mut command = Command::new("prometheus-exporter-exporter");
        command
            .arg("-config.file")
            .arg(config)
            .args(["-web.listen-address", "", "-web.tls.verify"])
            .args(["-web.tls.listen-address", &self.address.to_string()])
            .args(["-web.tls.cert", &format!("{credentials}/server.pem")])
            .args(["-web.tls.key", &format!("{credentials}/server.key")])
            .args(["-web.tls.ca", &format!("{credentials}/ca.pem")]);
        Ok(command)
    }

    fn floor(&self, read_size: usize) -> Result<Command> {
        Floor::new(self.credentials, self.address, self.exporter.http, read_size).command()
    }
}

/// Debian installs daemons in a folder that is not in a user's `PATH`.
fn system_program(name: &str) -> PathBuf {
    let daemon = Path::new("/usr/sbin").join(name);
    if daemon.exists() { daemon } else { name.into() }
}
