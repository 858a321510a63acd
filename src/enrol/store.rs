//! Two files that belong together, put in their places one after the other.
//!
//! The order is such that a crash between any two steps leaves a pair that serves: the certificate
//! that is there chains to a CA that is there.

use std::{fs, io, path::Path};

use super::{
    Files,
    check::{Checked, certificates, parsed, sha256},
};
use crate::{
    error::EnrolError,
    file,
    pki::{Access, Existing, Staged},
};

/// Largest file of CA certificates that is read, in bytes.
const MAX_CA: u64 = 1024 * 1024;

/// Stores the first certificate. It comes last, because whether it is there says whether the host
/// is enrolled: a crash before leaves a host that can be enrolled again.
pub(super) fn first(files: &Files, checked: &Checked) -> Result<(), EnrolError> {
    match fs::symlink_metadata(&files.certificate) {
        Ok(_) => return Err(EnrolError::AlreadyEnrolled),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(EnrolError::Store(error)),
    }
    let ca = staged(&files.ca, &checked.ca)?;
    let certificate = staged(&files.certificate, &checked.certificate)?;
    ca.commit(Existing::Replace).map_err(EnrolError::Store)?;
    certificate.commit(Existing::Keep).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => EnrolError::AlreadyEnrolled,
        _ => EnrolError::Store(error),
    })
}

/// Stores a certificate in the place of the present one. `shown` is the digest of the client's
/// public key.
///
/// A new CA comes in three steps: both CAs, then the certificate, then the new CA alone.
pub(super) fn renewal(
    files: &Files,
    checked: &Checked,
    shown: Option<[u8; 32]>,
) -> Result<(), EnrolError> {
    let present = file::read(&files.ca, MAX_CA)
        .map_err(|error| EnrolError::Store(io::Error::other(error)))?;
    let present = String::from_utf8_lossy(&present);
    let anchors = certificates(&present).unwrap_or_default();
    let certificate = staged(&files.certificate, &checked.certificate)?;
    if anchors == checked.anchors {
        return certificate.commit(Existing::Replace).map_err(EnrolError::Store);
    }
    // TLS has seen proof that the client holds the key to what it showed.
    let is_ca = |shown: [u8; 32]| {
        parsed(&anchors).iter().any(|anchor| sha256(anchor.public_key().raw) == shown)
    };
    if !shown.is_some_and(is_ca) {
        return Err(EnrolError::ForeignCa);
    }
    let both = staged(&files.ca, &format!("{present}\n{}", checked.ca))?;
    let ca = staged(&files.ca, &checked.ca)?;
    for file in [both, certificate, ca] {
        file.commit(Existing::Replace).map_err(EnrolError::Store)?;
    }
    Ok(())
}

fn staged(path: &Path, pem: &str) -> Result<Staged, EnrolError> {
    Staged::new(path, pem.as_bytes(), Access::Public).map_err(EnrolError::Store)
}
