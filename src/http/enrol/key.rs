//! This host's key, and the signing requests that are made with it.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use rustls::pki_types::PrivateKeyDer;

use super::policy::EnrolmentPaths;
use crate::{
    common::{
        error::EnrolError,
        file::{self, Existing, FileAccess, ReadError},
    },
    config::KeyKind,
    tls::{pem, pki},
};

/// Largest key file, in bytes; an RSA-4096 key has 3 KiB.
const MAX_KEY: u64 = 64 * 1024;

/// The minimum time between two signatures. Unknown clients may request ever new names, and each
/// RSA-4096 signature takes some milliseconds of CPU time.
const PACE: Duration = Duration::from_millis(100);

/// The name in the signing request if the system's host name is not valid.
const UNNAMED: &str = "localhost";

/// The last signing request.
#[derive(Debug, Default)]
pub(super) struct Requests {
    last: Option<Signed>,
}

#[derive(Debug)]
struct Signed {
    name: String,
    /// SHA-256 of the key file. A new key needs a new signing request.
    key_sha256: Vec<u8>,
    pem: String,
    at: Instant,
}

impl Requests {
    /// The signing request for `domain`, or for this host. If the key does not exist, it is
    /// generated.
    pub(super) fn signed(
        &mut self,
        files: &EnrolmentPaths,
        kind: KeyKind,
        domain: Option<&str>,
    ) -> Result<String, EnrolError> {
        let name = domain.map_or_else(host_name, str::to_owned);
        let pem = match read_file(&files.key)? {
            Some(pem) => pem,
            None => make(&files.key, kind)?,
        };
        let key_sha256 = digest(&SHA256, &pem).as_ref().to_vec();
        if let Some(last) = &self.last {
            if last.name == name && last.key_sha256 == key_sha256 {
                return Ok(last.pem.clone());
            }
            sleep(PACE.saturating_sub(last.at.elapsed()));
        }
        let key =
            KeyPair::try_from(&parse(&pem)?).map_err(|error| EnrolError::Key(error.into()))?;
        let pem = pki::signing_request(&name, &key).map_err(|error| match error {
            pki::Error::BadHosts(_) | pki::Error::NoHost => EnrolError::Domain,
            pki::Error::Generate(error) => EnrolError::Key(error.into()),
        })?;
        keep_a_copy(&files.signing_request, &pem);
        self.last = Some(Signed { name, key_sha256, pem: pem.clone(), at: Instant::now() });
        Ok(pem)
    }
}

/// This host's key, if it has one.
pub(super) fn read(path: &Path) -> Result<Option<PrivateKeyDer<'static>>, EnrolError> {
    read_file(path)?.as_deref().map(parse).transpose()
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, EnrolError> {
    match file::read(path, MAX_KEY) {
        Ok(pem) => Ok(Some(pem)),
        Err(ReadError::Missing) => Ok(None),
        Err(error) => Err(EnrolError::Key(error.into())),
    }
}

fn parse(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, EnrolError> {
    pem::private_key(bytes).map_err(|problem| EnrolError::Key(problem.into()))
}

fn generate(kind: KeyKind) -> Result<KeyPair, rcgen::Error> {
    match kind {
        KeyKind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
        KeyKind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
    }
}

/// Generates and stores a key. It never replaces a key that has appeared meanwhile.
fn make(path: &Path, kind: KeyKind) -> Result<Vec<u8>, EnrolError> {
    let key = generate(kind).map_err(|error| EnrolError::Key(error.into()))?;
    let pem = key.serialize_pem().into_bytes();
    file::write(path, &pem, FileAccess::Private, Existing::Keep)
        .map_err(|error| EnrolError::Key(error.into()))?;
    tracing::info!(file = %path.display(), "generated a key");
    Ok(pem)
}

/// Stores a copy, as the agent does. Nothing reads the copy, so an error is only logged.
fn keep_a_copy(path: &Path, pem: &str) {
    if let Err(error) = file::write(path, pem.as_bytes(), FileAccess::Public, Existing::Replace) {
        tracing::warn!(file = %path.display(), %error, "cannot store a copy of the signing request");
    }
}

fn host_name() -> String {
    let name = gethostname::gethostname().into_string().unwrap_or_default();
    if pki::is_host(&name) { name } else { UNNAMED.to_owned() }
}
