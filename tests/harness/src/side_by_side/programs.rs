//! The programs that are compared, each configured as well as its manual allows.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use super::{Result, process::Processes};

/// A program that can stand in front of an exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A build of scrapegate.
    Scrapegate {
        /// Its binary.
        binary: PathBuf,
    },
    /// nginx.
    Nginx {
        /// Whether it keeps connections to the exporter open.
        upstream_keep_alive: bool,
    },
    /// haproxy.
    Haproxy,
    /// caddy.
    Caddy,
    /// exporter_exporter.
    ExporterExporter,
}

/// What a program does with the bodies that an exporter sends uncompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// It passes them on. scrapegate has its default, which compresses for distant scrapers.
    Unset,
    /// It compresses with gzip.
    Gzip,
    /// It compresses with zstd. Only scrapegate and caddy can.
    Zstd,
}

/// A body of an exporter.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The path without its slash, and the exporter's name in the proxy.
    pub name: &'a str,
    /// The exporter.
    pub address: SocketAddr,
    /// Whether the exporter uses TLS.
    pub https: bool,
}

/// Where a program runs, and what it serves.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it serves. All sources without TLS have one address, and all with TLS another one.
    pub sources: &'a [Source<'a>],
    /// The folder of [`Credentials`](super::credentials::Credentials).
    pub credentials: &'a Path,
    /// A folder for the program's files.
    pub folder: &'a Path,
    /// Whether it compresses.
    pub compression: Compression,
    /// More keys for scrapegate's sections of exporters.
    pub exporter_keys: &'a str,
}

/// A running program.
pub struct Running {
    /// Its processes.
    pub processes: Processes,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Running {
    /// Runs a command that listens at `address`, and writes its output to the file `log` of the
    /// folder.
    ///
    /// # Errors
    ///
    /// Fails if the command does not listen within ten seconds.
    pub fn start(command: Command, address: SocketAddr, folder: &Path) -> Result<Self> {
        Ok(Self { processes: Processes::start(command, address, &folder.join("log"))?, address })
    }
}

/// An address of this IP address at which nobody listens.
///
/// # Errors
///
/// Fails if the IP address is not one of this host.
pub fn free_address(address: IpAddr) -> Result<SocketAddr> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?)
}

impl Program {
    /// The version that the program reports, or `None` if it is not installed.
    pub fn version(&self) -> Option<String> {
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
        }
    }

    /// The Debian package to install.
    pub fn debian_package(&self) -> &'static str {
        match self {
            Self::Scrapegate { .. } => "none",
            Self::Nginx { .. } => "nginx-light",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
            Self::ExporterExporter => "prometheus-exporter-exporter",
        }
    }

    /// The path at which the program serves a source.
    pub fn path(&self, source: &str) -> String {
        match self {
            Self::Scrapegate { .. } => format!("/prometheus?exporter={source}"),
            Self::ExporterExporter => format!("/proxy?module={source}"),
            Self::Nginx { .. } | Self::Haproxy | Self::Caddy => format!("/{source}"),
        }
    }

    /// Writes the program's files and starts it.
    ///
    /// # Errors
    ///
    /// Fails if the program does not listen within ten seconds, for example because of its
    /// configuration. The error has its output.
    pub fn start(&self, site: &Site<'_>) -> Result<Running> {
        let command = match self {
            Self::Scrapegate { binary } => site.scrapegate(binary)?,
            Self::Nginx { upstream_keep_alive } => site.nginx(*upstream_keep_alive)?,
            Self::Haproxy => site.haproxy()?,
            Self::Caddy => site.caddy()?,
            Self::ExporterExporter => site.exporter_exporter()?,
        };
        Running::start(command, site.address, site.folder)
    }
}

fn package_version(package: &str) -> Option<String> {
    let arguments = ["--show", "--showformat=${Version}", package];
    let output = Command::new("dpkg-query").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Site<'_> {
    /// The address of all sources with this scheme.
    fn upstream(&self, scheme: Scheme) -> Option<SocketAddr> {
        let mut of_scheme =
            self.sources.iter().filter(|source| source.https == (scheme == Scheme::Https));
        of_scheme.next().map(|source| source.address)
    }

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
                 max-connections-per-ip = 4096\nhttp-reload = True\n"
            ),
        )?;
        let compression = match self.compression {
            Compression::Unset => "",
            Compression::Gzip => "compression = always\ncompression-algorithms = gzip\n",
            Compression::Zstd => "compression = always\ncompression-algorithms = zstd\n",
        };
        let mut exporters = String::new();
        for Source { name, address, https } in self.sources {
            let (method, https_keys) =
                if *https { ("https", "insecure-skip-verify = True\n") } else { ("http", "") };
            let (host, port) = (address.ip(), address.port());
            write!(
                exporters,
                "[{name}]\nenabled = True\nmethod = {method}\nhost = {host}\nport = {port}\n\
                 path = /{name}\ninterval = 60\ntimeout = 60\nmax-concurrent = 1000\n\
                 {https_keys}{compression}{more}",
                more = self.exporter_keys,
            )?;
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
        let address = self.address;
        let (keep_alive, connection) =
            if upstream_keep_alive { ("keepalive 64;", "\"\"") } else { ("", "close") };
        let gzip = match self.compression {
            Compression::Unset => "gzip off;",
            // Otherwise nginx compresses no type that has parameters before `charset`.
            Compression::Gzip => "gzip on; gzip_types *; gzip_comp_level 1; gzip_proxied any;",
            Compression::Zstd => return Err("nginx has no zstd".into()),
        };
        let (mut upstreams, mut https) = (String::new(), String::new());
        for (name, upstream) in [
            ("exporter", self.upstream(Scheme::Http)),
            ("https_exporter", self.upstream(Scheme::Https)),
        ] {
            if let Some(upstream) = upstream {
                writeln!(upstreams, "upstream {name} {{ server {upstream}; {keep_alive} }}")?;
            }
        }
        for source in self.sources.iter().filter(|source| source.https) {
            let name = source.name;
            writeln!(https, "location = /{name} {{ proxy_pass https://https_exporter; }}")?;
        }
        let config = self.write(
            "nginx.conf",
            &format!(
                "daemon off; user root; worker_processes auto; pid {folder}/pid; error_log stderr crit;\n\
                 events {{ worker_connections 4096; }}\n\
                 http {{\n\
                 access_log off; {gzip} tcp_nodelay on;\n\
                 client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
                 fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
                 scgi_temp_path {folder}/scgi;\n\
                 {upstreams}\
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
                 location / {{ proxy_pass http://exporter; }}\n{https}}}\n}}\n"
            ),
        )?;
        let mut command = Command::new(system_program("nginx"));
        command.arg("-p").arg(self.folder).arg("-c").arg(config).args(["-e", "stderr"]);
        Ok(command)
    }

    fn haproxy(&self) -> Result<Command> {
        let credentials = self.credentials.display();
        let address = self.address;
        let compression = match self.compression {
            Compression::Unset => "",
            Compression::Gzip => " compression algo gzip\n compression type text/plain\n",
            Compression::Zstd => return Err("haproxy has no zstd".into()),
        };
        let (mut rules, mut backends) = (String::new(), String::new());
        for source in self.sources.iter().filter(|source| source.https) {
            writeln!(rules, " use_backend https_exporter if {{ path /{} }}", source.name)?;
        }
        if let Some(http) = self.upstream(Scheme::Http) {
            writeln!(backends, "backend exporter\n server exporter {http}")?;
        }
        if let Some(https) = self.upstream(Scheme::Https) {
            let options = "ssl verify none no-ssl-reuse";
            writeln!(backends, "backend https_exporter\n server exporter {https} {options}")?;
        }
        let config = self.write(
            "haproxy.cfg",
            &format!(
                "global\n tune.bufsize 131072\n tune.ssl.cachesize 0\n maxconn 4000\n\
                 defaults\n mode http\n timeout connect 5s\n timeout client 300s\n timeout server 300s\n\
                 frontend scrapers\n\
                 \x20bind {address} ssl crt {credentials}/server-both.pem ca-file {credentials}/ca.pem \
                 verify required ssl-min-ver TLSv1.3 alpn http/1.1 no-tls-tickets\n\
                 {compression}{rules} default_backend exporter\n{backends}"
            ),
        )?;
        let mut command = Command::new(system_program("haproxy"));
        command.arg("-db").arg("-f").arg(config);
        Ok(command)
    }

    fn caddy(&self) -> Result<Command> {
        let credentials = self.credentials.display();
        let address = self.address;
        let encode = match self.compression {
            Compression::Unset => "",
            Compression::Gzip => "encode gzip\n",
            Compression::Zstd => "encode zstd\n",
        };
        let mut routes = String::new();
        for Source { name, address, .. } in self.sources.iter().filter(|source| source.https) {
            let transport = "{\n transport http {\n tls_insecure_skip_verify\n }\n}";
            writeln!(routes, "reverse_proxy /{name} https://{address} {transport}")?;
        }
        if let Some(http) = self.upstream(Scheme::Http) {
            writeln!(routes, "reverse_proxy {http}")?;
        }
        let config = self.write(
            "Caddyfile",
            &format!(
                "{{\n admin off\n auto_https off\n log {{\n level ERROR\n }}\n\
                 servers {{\n protocols h1\n }}\n}}\n\
                 https://localhost:{port} {{\n bind {ip}\n\
                 tls {credentials}/server.pem {credentials}/server.key {{\n protocols tls1.3\n\
                 client_auth {{\n mode require_and_verify\n trusted_ca_cert_file {credentials}/ca.pem\n }}\n }}\n\
                 {encode}{routes}}}\n",
                port = address.port(),
                ip = address.ip(),
            ),
        )?;
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
        command.env("HOME", self.folder).env("XDG_DATA_HOME", self.folder);
        Ok(command)
    }

    fn exporter_exporter(&self) -> Result<Command> {
        let mut modules = String::from("modules:\n");
        for Source { name, address, https } in self.sources {
            let tls = if *https {
                "      scheme: https\n      tls_insecure_skip_verify: true\n"
            } else {
                ""
            };
            let (ip, port) = (address.ip(), address.port());
            write!(
                modules,
                "  {name}:\n    method: http\n    timeout: 60s\n    http:\n      address: {ip}\n      \
                 port: {port}\n      path: /{name}\n      verify: false\n{tls}"
            )?;
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
}

/// Debian installs daemons in a folder that is not in a user's `PATH`.
fn system_program(name: &str) -> PathBuf {
    let daemon = Path::new("/usr/sbin").join(name);
    if daemon.exists() { daemon } else { name.into() }
}
