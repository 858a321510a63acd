//! Reads the keys of `config.ini` that decide how connections are secured, and checks their
//! combinations.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    ClientAuth, EnrolmentFiles, Located, Security, TlsFiles, agent_folder,
    clients::{self, AddressRange, ClientPattern},
    diagnostics::{Diagnostics, Location},
    ini::Document,
    keys,
    section_reader::{Read, Reported, SectionReader},
    values,
};
use crate::common::deadline::Budget;

/// `[default] tls-security-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsLevel {
    /// TLS 1.2 and 1.3; the same suites as `Intermediate`, because rustls has no weaker ones.
    Lax,
    /// TLS 1.2 and 1.3, with ECDHE and AEAD suites.
    #[default]
    Intermediate,
    /// TLS 1.3 only.
    Modern,
}

/// `[proxy] enrol-key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// RSA with 4096 bits, as the agent generates it.
    #[default]
    Rsa4096,
    /// ECDSA with P-256.
    Ecdsa,
}

/// The meaning of all keys together.
pub(super) struct Decided {
    pub(super) security: Security,
    pub(super) client_allow: Vec<ClientPattern>,
    pub(super) enrol_from: Vec<AddressRange>,
    pub(super) enrol_window: Option<Budget>,
    pub(super) enrol_key: KeyKind,
}

/// Reads all keys.
pub(super) fn read(
    document: &Document,
    listen: Result<SocketAddr, Reported>,
    diagnostics: &mut Diagnostics,
) -> Result<Decided, Reported> {
    let server = Server::read(&mut SectionReader::of_table(document, &keys::DEFAULT, diagnostics));
    let mut proxy = SectionReader::of_table(document, &keys::PROXY, diagnostics);
    let clients = Clients::read(&mut proxy);
    let enrolment = Enrolment::read(&mut proxy);
    let (server, clients, enrolment) = (server?, clients?, enrolment?);
    let mut default = SectionReader::of_table(document, &keys::DEFAULT, diagnostics);
    let security = match &clients.plain_http {
        Some(plain_http) => plain(&server, &clients, plain_http, listen, &mut default)?,
        None => {
            let files = server.files(&mut default)?;
            let mut proxy = SectionReader::of_table(document, &keys::PROXY, diagnostics);
            Security::Tls(Box::new(files.for_clients(&clients, &mut proxy)?))
        }
    };
    Ok(Decided {
        security,
        client_allow: clients.allow.map_or_else(Vec::new, |allow| allow.value),
        enrol_from: enrolment.from.map_or_else(Vec::new, |from| from.value),
        enrol_window: enrolment.window.map(|window| window.value),
        enrol_key: enrolment.key,
    })
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
struct Files {
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

    fn files(self, reader: &mut SectionReader<'_>) -> Result<Files, Reported> {
        if self.autossl.is_some() {
            for unused in [&self.certificate, &self.key].into_iter().flatten() {
                let warning = "ignored because of `try-autossl = True`";
                reader.warning(unused.location.clone(), warning);
            }
            let files = self.autossl_files;
            files.check_distinct(reader)?;
            return Ok(Files {
                certificate: files.certificate,
                key: files.key,
                enrolment: Some(EnrolmentFiles {
                    signing_request: files.signing_request,
                    ca: files.ca,
                }),
            });
        }
        match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Ok(Files { certificate, key, enrolment: None }),
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

impl Files {
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
    allow: Option<Located<Vec<ClientPattern>>>,
}

impl Clients {
    fn read(reader: &mut SectionReader<'_>) -> Result<Self, Reported> {
        let plain_http = only_if_true(reader.read("insecure-plain-http", values::boolean));
        let auth = reader.read("client-auth", values::one_of(AUTH));
        let ca = reader.path("client-ca");
        let crl = reader.path("client-crl");
        let allow = reader.read("client-allow", clients::client_patterns);
        Ok(Self { plain_http: plain_http?, auth: auth?, ca: ca?, crl: crl?, allow: allow? })
    }

    /// `client-auth = none`. Keys that restrict clients are errors, because they would have no
    /// effect.
    fn not_asked(
        &self,
        location: &Location,
        reader: &mut SectionReader<'_>,
    ) -> Result<ClientAuth, Reported> {
        let narrowing = [location_of(&self.crl), location_of(&self.allow)];
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
) -> Result<Security, Reported> {
    let wants_tls = [
        location_of(&server.autossl),
        location_of(&server.certificate),
        location_of(&server.key),
        clients.auth.as_ref().filter(|auth| auth.value == Auth::Require).map(|auth| &auth.location),
        location_of(&clients.ca),
        location_of(&clients.crl),
        location_of(&clients.allow),
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
    Ok(Security::InsecurePlainHttp)
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

const KEYS: &[(&str, KeyKind)] = &[("rsa4096", KeyKind::Rsa4096), ("ecdsa", KeyKind::Ecdsa)];

/// The restrictions of enrollment, and the kind of its key.
struct Enrolment {
    from: Option<Located<Vec<AddressRange>>>,
    window: Option<Located<Budget>>,
    key: KeyKind,
}

impl Enrolment {
    fn read(reader: &mut SectionReader<'_>) -> Result<Self, Reported> {
        let from = reader.read("enrol-from", clients::address_ranges);
        let window = reader.read("enrol-window", values::seconds);
        let key = reader.read_or("enrol-key", values::one_of(KEYS), "rsa4096");
        Ok(Self { from: from?, window: window?, key: key? })
    }
}
