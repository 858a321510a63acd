//! What an exporter is: its name, where it listens, and the rules for scraping it.
//!
//! Values of these types are correct by construction. The configuration builds them, and no other
//! code checks them again.

use std::{
    fmt,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    sync::Arc,
};

use hyper::http::uri::PathAndQuery;
use rustls::{ClientConfig, pki_types::ServerName};

use crate::common::{compression::CompressionRules, deadline::Budget, families::FamilyRules};

/// The name that a scraper asks for with `?exporter=`: 1 to 128 bytes, no control characters.
///
/// Names are compared byte for byte: `Node` and `node` are two exporters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExporterName(Arc<str>);

impl ExporterName {
    /// Longest name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks `name` against the rules above.
    ///
    /// # Errors
    /// [`BadExporterName`] says which rule was broken.
    pub fn new(name: &str) -> Result<Self, BadExporterName> {
        if name.is_empty() {
            Err(BadExporterName::Empty)
        } else if name.len() > Self::MAX_LEN {
            Err(BadExporterName::TooLong(name.len()))
        } else if name.chars().any(char::is_control) {
            Err(BadExporterName::ControlCharacter)
        } else {
            Ok(Self(name.into()))
        }
    }

    /// The name as written in the exporters file.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExporterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a string is not an [`ExporterName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadExporterName {
    /// The name is empty.
    #[error("the exporter's name is empty")]
    Empty,
    /// More than [`ExporterName::MAX_LEN`] bytes; carries how many.
    #[error("the exporter's name is {0} bytes long, at most 128 are allowed")]
    TooLong(usize),
    /// A control character, such as a tab or a NUL.
    #[error("the exporter's name contains a control character")]
    ControlCharacter,
}

/// Where an exporter listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A host name or address literal, and a port. `localhost` means `127.0.0.1`, and `::1` if
    /// `127.0.0.1` refuses the connection.
    Tcp {
        /// Host name or address literal, without brackets.
        host: String,
        /// Port, 1 to 65535.
        port: NonZeroU16,
    },
    /// A Unix domain socket.
    Unix(PathBuf),
}

impl Target {
    /// The `Host` header towards the exporter: `host:port`, or `localhost` on a Unix socket.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => f.write_str(&self.authority()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Path of the metrics on the exporter, with an optional query.
///
/// Starts with `/`; printable ASCII without space and `#`; no `..` segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExporterPath(String);

impl ExporterPath {
    /// Checks `path` against the rules above.
    ///
    /// # Errors
    /// A sentence that says which rule was broken.
    pub fn new(path: &str) -> Result<Self, &'static str> {
        if !path.starts_with('/') {
            return Err("must start with `/`");
        }
        if path.contains('#') {
            return Err("must not contain `#`: a fragment is never sent to a server");
        }
        if !path.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("must be printable ASCII without spaces; percent-encode anything else");
        }
        let before_query = path.split('?').next().unwrap_or(path);
        if before_query.split('/').any(|segment| segment == "..") {
            return Err("must not contain a `..` segment");
        }
        if PathAndQuery::try_from(path).is_err() {
            return Err("contains a character that must be percent-encoded, such as `<`");
        }
        Ok(Self(path.to_owned()))
    }

    /// The path and query as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How scrapegate decides that a body is complete, before it ends the response cleanly. Default:
/// `Strict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Integrity {
    /// The HTTP framing must be complete. If the body has no `Content-Encoding`, OpenMetrics must
    /// also end in the line `# EOF`, and a body that ends when the connection closes must end in
    /// `\n`.
    #[default]
    Strict,
    /// Only the HTTP framing must be complete.
    Transport,
}

/// The `Authorization` header that scrapegate sends to the exporter. `Debug` does not print it.
#[derive(Clone)]
pub struct Authorization(hyper::header::HeaderValue);

impl Authorization {
    /// Wraps a complete header value, such as `Bearer …`, and marks it as sensitive.
    #[must_use]
    pub fn new(mut value: hyper::header::HeaderValue) -> Self {
        value.set_sensitive(true);
        Self(value)
    }

    /// The header's value.
    #[must_use]
    pub fn header_value(&self) -> hyper::header::HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(…)")
    }
}

/// TLS towards an exporter with `method = https`.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// Trust anchors, client certificate and protocol versions.
    pub config: Arc<ClientConfig>,
    /// The name the exporter's certificate must be valid for.
    pub server_name: ServerName<'static>,
}

/// One exporter, ready to be scraped: its section of the exporters file, and the files that the
/// section names.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// The name that a scraper asks for.
    pub name: ExporterName,
    /// Where the exporter listens.
    pub target: Target,
    /// TLS towards the exporter, or plain HTTP.
    pub tls: Option<UpstreamTls>,
    /// Path and query of its metrics.
    pub path: ExporterPath,
    /// Credentials towards the exporter.
    pub authorization: Option<Authorization>,
    /// How the exporter is scraped.
    pub rules: ScrapeRules,
}

/// How an exporter is scraped.
#[derive(Clone, Debug)]
pub struct ScrapeRules {
    /// How often scrapers are expected to scrape the exporter. Default 15 s. Discovery publishes
    /// it, and the `overdue` signal depends on it. scrapegate never starts a scrape by itself.
    pub interval: Budget,
    /// The limit of a whole scrape, from the arrival of the request to the last byte. At most
    /// `interval`. Default 15 s, or `interval` if that is less.
    pub timeout: Budget,
    /// The limit of name lookup, TCP connect and TLS handshake together. At most `timeout`.
    /// Default 1 s, or `timeout` if that is less.
    pub connect_timeout: Budget,
    /// The largest number of concurrent scrapes. One more gets 503. Default 16.
    pub max_concurrent: NonZeroU32,
    /// The largest body that is passed on, in bytes. No limit by default.
    pub max_body: Option<u64>,
    /// Whether the scraper's other query parameters are forwarded to the exporter. Default true.
    pub forward_params: bool,
    /// When a body counts as complete.
    pub integrity: Integrity,
    /// When answers are compressed, and how.
    pub compression: CompressionRules,
    /// Which metric families are passed on. `None` without `metrics-drop` and `metrics-keep`: the
    /// body is not read.
    pub families: Option<FamilyRules>,
}
