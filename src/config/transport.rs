//! How connections from scrapers are secured: the keys of `config.ini` that decide it, and the
//! checks of their combinations.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    diagnostics::{Diagnostics, Located, Location},
    endpoint::Scheme,
    folders::agent_folder,
    ini::Document,
    keys,
    section_reader::{Read, Reported, SectionReader},
    values,
};

/// How connections from scrapers are secured.
#[derive(Clone, Debug)]
pub enum Transport {
    /// TLS, the usual case.
    Tls(Box<TlsFiles>),
    /// `[proxy] insecure-plain-http = True`, allowed only on a loopback address.
    InsecurePlainHttp,
}

impl Transport {
    /// The scheme of the URLs that scrapers use.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Tls(_) => Scheme::Https,
            Self::InsecurePlainHttp => Scheme::Http,
        }
    }
}

/// The paths of the TLS server's files. The files are not read yet.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The other `autossl-*` files, if enrollment writes the certificate.
    pub enrolment: Option<EnrolmentFiles>,
    /// `certfile` or `autossl-crt-file`.
    pub certificate: Located<PathBuf>,
    /// `keyfile` or `autossl-key-file`.
    pub key: Located<PathBuf>,
    /// Which client certificates are accepted.
    pub clients: ClientAuth,
}

/// The files that enrollment writes in addition to the certificate and the key.
#[derive(Clone, Debug)]
pub struct EnrolmentFiles {
    /// `autossl-csr-file`.
    pub signing_request: Located<PathBuf>,
    /// `autossl-ca-file`, even if `client-ca` replaces it for verifying clients.
    pub ca: Located<PathBuf>,
}

/// `[proxy] client-auth`.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// A client certificate is required.
    Require {
        /// `client-ca`, else `autossl-ca-file`.
        ca: Located<PathBuf>,
        /// `client-crl`.
        crl: Option<Located<PathBuf>>,
    },
    /// No client certificate is requested (`client-auth = none`).
    None,
}

/// Reads all keys.
pub(super) fn read(
    document: &Document,
    listen: Result<SocketAddr, Reported>,
    diagnostics: &mut Diagnostics,
) -> Result<Transport, Reported> {
    let server = Server::read(&mut SectionReader::of_table(document, &keys::DEFAULT, diagnostics));
    let mut proxy = SectionReader::of_table(document, &keys::PROXY, diagnostics);
    let clients = Clients::read(&mut proxy);
    let (server, clients) = (server?, clients?);
    let mut default = SectionReader::of_table(document, &keys::DEFAULT, diagnostics);
    match &clients.plain_http {
        Some(plain_http) => plain(&server, &clients, plain_http, listen, &mut default),
        None => {
            let files = server.files(&mut default)?;
            let mut proxy = SectionReader::of_table(document, &keys::PROXY, diagnostics);
            Ok(Transport::Tls(Box::new(files.for_clients(&clients, &mut proxy)?)))
        }
    }
}

/// Treats a switch that is off like an absent one.
fn only_if_true(switch: Read<bool>) -> Read<()> {
    let on = switch?.filter(|switch| switch.value);
    Ok(on.map(|Located { location, .. }| Located { value: (), location }))
}

/// The server's certificate and key, from `[default]`.
struct Server {
    /// `try-autossl = True`.
    autossl: Option<Located<()>>,
    autossl_files: AutosslFiles,
    certificate: Option<Located<PathBuf>>,
    key: Option<Located<PathBuf>>,
}

struct AutosslFiles {
    certificate: Located<PathBuf>,
    key: Located<PathBuf>,
    signing_request: Located<PathBuf>,
    ca: Located<PathBuf>,
}

/// The server's files, before the client authentication is known.
struct ServerFiles {
    certificate: Located<PathBuf>,
    key: Located<PathBuf>,
    /// The files of enrollment. Their CA is the default of `client-ca`.
    enrolment: Option<EnrolmentFiles>,
}

impl Server {
    fn read(reader: &mut SectionReader<'_>) -> Result<Self, Reported> {
        let autossl = only_if_true(reader.read("try-autossl", values::boolean));
        let autossl_files = AutosslFiles::read(reader);
        let certificate = reader.path("certfile");
        let key = reader.path("keyfile");
        Ok(Self {
            autossl: autossl?,
            autossl_files: autossl_files?,
            certificate: certificate?,
            key: key?,
        })
    }

    fn files(self, reader: &mut SectionReader<'_>) -> Result<ServerFiles, Reported> {
        if self.autossl.is_some() {
            for unused in [&self.certificate, &self.key].into_iter().flatten() {
                let warning = "ignored because of `try-autossl = True`";
                reader.warning(unused.location.clone(), warning);
            }
            let files = self.autossl_files;
            files.check_distinct(reader)?;
            return Ok(ServerFiles {
                certificate: files.certificate,
                key: files.key,
                enrolment: Some(EnrolmentFiles {
                    signing_request: files.signing_request,
                    ca: files.ca,
                }),
            });
        }
        match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Ok(ServerFiles { certificate, key, enrolment: None }),
            (Some(_), None) => Err(reader.missing("keyfile", "missing; `certfile` requires it")),
            (None, Some(_)) => Err(reader.missing("certfile", "missing; `keyfile` requires it")),
            (None, None) => Err(reader.missing_in_file(
                "no certificate: set `try-autossl = True`, or `certfile` and `keyfile`, in \
                 [default]; or, for a loopback address only, `insecure-plain-http = True` in \
                 [proxy]",
            )),
        }
    }
}

impl AutosslFiles {
    fn read(reader: &mut SectionReader<'_>) -> Result<Self, Reported> {
        let folder = reader.path("autossl-folder");
        let certificate = reader.path("autossl-crt-file");
        let key = reader.path("autossl-key-file");
        let signing_request = reader.path("autossl-csr-file");
        let ca = reader.path("autossl-ca-file");
        let folder = folder?.map_or_else(|| agent_folder().to_owned(), |folder| folder.value);
        let or_default = |path: Read<PathBuf>, key, name| {
            path.map(|path| {
                path.unwrap_or_else(|| Located {
                    value: folder.join(name),
                    location: reader.location_of_default(key),
                })
            })
        };
        Ok(Self {
            certificate: or_default(certificate, "autossl-crt-file", "agent.crt")?,
            key: or_default(key, "autossl-key-file", "agent.key")?,
            signing_request: or_default(signing_request, "autossl-csr-file", "agent.csr")?,
            ca: or_default(ca, "autossl-ca-file", "server_ca.crt")?,
        })
    }

    /// Enrollment writes all four files. If two had the same name, one would overwrite the other. A
    /// signing request, which anyone may request, could then overwrite the key.
    fn check_distinct(&self, reader: &mut SectionReader<'_>) -> Result<(), Reported> {
        let files = [&self.certificate, &self.key, &self.signing_request, &self.ca];
        let mut checked = Ok(());
        for (index, file) in files.iter().enumerate() {
            if files[..index].iter().any(|other| other.value == file.value) {
                let message = "another `autossl-*` key names the same file";
                checked = Err(reader.error(file.location.clone(), message));
            }
        }
        checked
    }
}

impl ServerFiles {
    fn for_clients(
        self,
        clients: &Clients,
        reader: &mut SectionReader<'_>,
    ) -> Result<TlsFiles, Reported> {
        let clients = match &clients.auth {
            Some(Located { value: Auth::None, location }) => clients.not_asked(location, reader)?,
            Some(Located { value: Auth::Require, .. }) | None => ClientAuth::Require {
                ca: clients
                    .ca
                    .clone()
                    .or_else(|| self.enrolment.as_ref().map(|files| files.ca.clone()))
                    .ok_or_else(|| reader.missing("client-ca", CLIENT_CA_MISSING))?,
                crl: clients.crl.clone(),
            },
        };
        Ok(TlsFiles {
            certificate: self.certificate,
            key: self.key,
            enrolment: self.enrolment,
            clients,
        })
    }
}

const CLIENT_CA_MISSING: &str = "missing; name the CA that signs the clients' certificates, or \
     accept every client with `client-auth = none`";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Auth {
    Require,
    None,
}

const AUTH: &[(&str, Auth)] = &[("require", Auth::Require), ("none", Auth::None)];

/// Which clients are accepted, from `[proxy]`.
struct Clients {
    /// `insecure-plain-http = True`.
    plain_http: Option<Located<()>>,
    auth: Option<Located<Auth>>,
    ca: Option<Located<PathBuf>>,
    crl: Option<Located<PathBuf>>,
    /// Where `client-allow` is.
    allow: Option<Location>,
}

impl Clients {
    fn read(reader: &mut SectionReader<'_>) -> Result<Self, Reported> {
        let plain_http = only_if_true(reader.read("insecure-plain-http", values::boolean));
        let auth = reader.read("client-auth", values::one_of(AUTH));
        let ca = reader.path("client-ca");
        let crl = reader.path("client-crl");
        let allow = reader.location_of("client-allow");
        Ok(Self { plain_http: plain_http?, auth: auth?, ca: ca?, crl: crl?, allow })
    }

    /// `client-auth = none`. Keys that restrict clients are errors, because they would have no
    /// effect.
    fn not_asked(
        &self,
        location: &Location,
        reader: &mut SectionReader<'_>,
    ) -> Result<ClientAuth, Reported> {
        let narrowing = [location_of(&self.crl), self.allow.as_ref()];
        let refused = refuse(narrowing, "has no effect with `client-auth = none`", reader);
        if let Some(ca) = &self.ca {
            reader.warning(ca.location.clone(), "ignored because of `client-auth = none`");
        }
        refused?;
        let warning = "every client that can connect is accepted, without a client certificate";
        reader.warning(location.clone(), warning);
        Ok(ClientAuth::None)
    }
}

/// `insecure-plain-http = True`. Every key that requires TLS conflicts with it.
fn plain(
    server: &Server,
    clients: &Clients,
    plain_http: &Located<()>,
    listen: Result<SocketAddr, Reported>,
    reader: &mut SectionReader<'_>,
) -> Result<Transport, Reported> {
    let wants_tls = [
        location_of(&server.autossl),
        location_of(&server.certificate),
        location_of(&server.key),
        clients.auth.as_ref().filter(|auth| auth.value == Auth::Require).map(|auth| &auth.location),
        location_of(&clients.ca),
        location_of(&clients.crl),
        clients.allow.as_ref(),
    ];
    let refused =
        refuse(wants_tls, "cannot be combined with `[proxy] insecure-plain-http = True`", reader);
    let listen = listen?;
    if !listen.ip().to_canonical().is_loopback() {
        let message = format!("only allowed on a loopback address; {listen} is not one");
        return Err(reader.error(plain_http.location.clone(), message));
    }
    refused?;
    let warning = "exporters are served in plain text, to everyone on this host";
    reader.warning(plain_http.location.clone(), warning);
    Ok(Transport::InsecurePlainHttp)
}

fn location_of<T>(value: &Option<Located<T>>) -> Option<&Location> {
    value.as_ref().map(|located| &located.location)
}

/// Reports `message` at each key that is present.
fn refuse<const N: usize>(
    locations: [Option<&Location>; N],
    message: &str,
    reader: &mut SectionReader<'_>,
) -> Result<(), Reported> {
    let mut result = Ok(());
    for location in locations.into_iter().flatten() {
        result = Err(reader.error(location.clone(), message));
    }
    result
}
