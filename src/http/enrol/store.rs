//! Stores a certificate and its CA, one file after the other.
//!
//! The order is such that a crash between any two steps leaves a usable pair: the certificate on
//! disk chains to a CA on disk.

use std::{fs, io, path::Path};

use super::{
    check::{Checked, parsed, readable, sha256},
    policy::EnrolmentPaths,
};
use crate::{
    common::{
        error::EnrolError,
        file::{self, Existing, FileAccess, ReadError, Staged},
    },
    tls::{pem::Purpose, validity},
};

/// Largest file of certificates that is read, in bytes.
const MAX_CA: u64 = 1024 * 1024;

/// Stores the first certificate. The certificate comes last, because its existence means that the
/// host is enrolled. After a crash before that, the host can be enrolled again.
pub(super) fn first(files: &EnrolmentPaths, checked: &Checked) -> Result<(), EnrolError> {
    match fs::symlink_metadata(&files.certificate) {
        Ok(_) => return Err(EnrolError::AlreadyEnrolled),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(EnrolError::Store(error)),
    }
    put(files, checked)
}

/// Stores both files, if there still is no certificate.
fn put(files: &EnrolmentPaths, checked: &Checked) -> Result<(), EnrolError> {
    let ca = staged(&files.ca, &checked.ca)?;
    let certificate = staged(&files.certificate, &checked.certificate)?;
    let before = Before::of(&files.ca)?;
    ca.commit(Existing::Replace).map_err(EnrolError::Store)?;
    certificate.commit(Existing::Keep).map_err(|error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            return EnrolError::Store(error);
        }
        // Another program has enrolled this host meanwhile, with its own CA.
        before.put_back(&files.ca).map_or_else(EnrolError::Store, |()| EnrolError::AlreadyEnrolled)
    })
}

/// A copy of the CA file, if it existed.
struct Before(Option<Staged>);

impl Before {
    fn of(path: &Path) -> Result<Self, EnrolError> {
        match file::read(path, MAX_CA) {
            Ok(bytes) => {
                let copy =
                    Staged::new(path, &bytes, FileAccess::Public).map_err(EnrolError::Store)?;
                Ok(Self(Some(copy)))
            }
            Err(ReadError::Missing | ReadError::Dangling) => Ok(Self(None)),
            Err(error) => Err(EnrolError::Store(io::Error::other(error))),
        }
    }

    fn put_back(self, path: &Path) -> io::Result<()> {
        match self.0 {
            Some(copy) => copy.commit(Existing::Replace),
            None => fs::remove_file(path),
        }
    }
}

/// Replaces the certificate. `shown` is the SHA-256 digest of the client's public key.
pub(super) fn renewal(
    files: &EnrolmentPaths,
    checked: &Checked,
    shown: Option<[u8; 32]>,
) -> Result<(), EnrolError> {
    steps(files, checked, shown)?
        .into_iter()
        .try_for_each(|file| file.commit(Existing::Replace))
        .map_err(EnrolError::Store)
}

/// All files of a renewal, staged on disk, in the order in which they must be committed. A new CA
/// takes three steps: both CAs, the certificate, then the new CA alone.
fn steps(
    files: &EnrolmentPaths,
    checked: &Checked,
    shown: Option<[u8; 32]>,
) -> Result<Vec<Staged>, EnrolError> {
    let present = file::read(&files.ca, MAX_CA)
        .map_err(|error| EnrolError::Store(io::Error::other(error)))?;
    let present = String::from_utf8_lossy(&present);
    let anchors = readable(&present, Purpose::ClientAuthorities);
    // TLS has verified that the client has the private key.
    let is_ca = shown.is_some_and(|shown| {
        parsed(&anchors).iter().any(|anchor| sha256(anchor.public_key().raw) == shown)
    });
    if anchors == checked.anchors {
        // Every client has seen earlier certificates in handshakes and could post one again.
        if !is_ca && begins(&checked.certificate) < begins_on_disk(files) {
            return Err(EnrolError::Older);
        }
        return Ok(vec![staged(&files.certificate, &checked.certificate)?]);
    }
    if !is_ca {
        return Err(EnrolError::ForeignCa);
    }
    Ok(vec![
        staged(&files.ca, &format!("{present}\n{}", checked.ca))?,
        staged(&files.certificate, &checked.certificate)?,
        staged(&files.ca, &checked.ca)?,
    ])
}

/// When the first certificate of a PEM text becomes valid, in seconds since 1970.
fn begins(pem: &str) -> Option<i64> {
    let (begins, _) = validity(readable(pem, Purpose::Chain).first()?)?;
    Some(begins)
}

/// The same for the certificate on disk. `None`, which sorts before all others, if it cannot be
/// read.
fn begins_on_disk(files: &EnrolmentPaths) -> Option<i64> {
    begins(&String::from_utf8_lossy(&file::read(&files.certificate, MAX_CA).ok()?))
}

fn staged(path: &Path, pem: &str) -> Result<Staged, EnrolError> {
    Staged::new(path, pem.as_bytes(), FileAccess::Public).map_err(EnrolError::Store)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use time::OffsetDateTime;

    use super::*;

    /// A host's key and folder, and the certificates that two CAs issued for it.
    struct Host {
        _folder: tempfile::TempDir,
        files: EnrolmentPaths,
        key: PrivateKeyDer<'static>,
        old: Checked,
        new: Checked,
        /// SHA-256 digest of the old CA's public key.
        old_key: [u8; 32],
    }

    impl Host {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            let files = EnrolmentPaths {
                key: at("agent.key"),
                signing_request: at("agent.csr"),
                certificate: at("agent.crt"),
                ca: at("server_ca.crt"),
            };
            let pair = KeyPair::generate().unwrap();
            let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
            let cas = ["old", "new"].map(|name| {
                let mut params = CertificateParams::default();
                params.distinguished_name.push(DnType::CommonName, name);
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
            });
            let [old, new] = cas.each_ref().map(|ca| {
                let certificate = CertificateParams::default().signed_by(&pair, ca).unwrap();
                checked(&certificate.pem(), &ca.pem(), &key).unwrap()
            });
            let old_key = sha256(parsed(&old.anchors)[0].public_key().raw).try_into().unwrap();
            Self { _folder: folder, files, key, old, new, old_key }
        }

        /// Whether the two files would be accepted if they were posted.
        fn has_a_pair(&self) -> bool {
            let [certificate, ca] = [&self.files.certificate, &self.files.ca]
                .map(|path| fs::read_to_string(path).unwrap());
            checked(&certificate, &ca, &self.key).is_ok()
        }
    }

    fn checked(
        certificate: &str,
        ca: &str,
        key: &PrivateKeyDer<'static>,
    ) -> Result<Checked, EnrolError> {
        let body = serde_json::json!({ "signed": certificate, "ca": ca }).to_string();
        Checked::of(body.as_bytes(), Some(key), OffsetDateTime::now_utc())
    }

    #[test]
    fn a_crash_between_any_two_steps_of_a_renewal_leaves_a_pair() {
        let host = Host::new();
        first(&host.files, &host.old).unwrap();
        assert!(host.has_a_pair());
        let steps = steps(&host.files, &host.new, Some(host.old_key)).unwrap();
        assert_eq!(steps.len(), 3);
        for step in steps {
            step.commit(Existing::Replace).unwrap();
            assert!(host.has_a_pair());
        }
        assert_eq!(fs::read_to_string(&host.files.ca).unwrap(), host.new.ca);
        assert_eq!(fs::read_to_string(&host.files.certificate).unwrap(), host.new.certificate);
    }

    #[test]
    fn a_first_certificate_never_replaces_another() {
        let host = Host::new();
        first(&host.files, &host.old).unwrap();
        let refused = first(&host.files, &host.new);
        assert!(matches!(refused, Err(EnrolError::AlreadyEnrolled)), "{refused:?}");
        assert_eq!(fs::read_to_string(&host.files.ca).unwrap(), host.old.ca);
        assert!(host.has_a_pair());
    }

    #[test]
    fn a_first_certificate_that_another_program_has_stored_meanwhile_keeps_its_ca() {
        let host = Host::new();
        first(&host.files, &host.old).unwrap();
        for left_behind in [true, false] {
            if !left_behind {
                fs::remove_file(&host.files.ca).unwrap();
            }
            let refused = put(&host.files, &host.new);
            assert!(matches!(refused, Err(EnrolError::AlreadyEnrolled)), "{refused:?}");
            let ca = fs::read_to_string(&host.files.ca).ok();
            assert_eq!(ca, left_behind.then(|| host.old.ca.clone()));
        }
        let there = fs::read_dir(host.files.ca.parent().unwrap()).unwrap().count();
        assert_eq!(there, 1, "the certificate alone, and no copy of anything");
    }

    #[test]
    fn any_client_may_renew_with_the_same_ca_but_only_the_ca_may_change_it() {
        let host = Host::new();
        first(&host.files, &host.old).unwrap();
        assert_eq!(steps(&host.files, &host.old, None).unwrap().len(), 1);
        for shown in [None, Some([7; 32])] {
            let refused = renewal(&host.files, &host.new, shown);
            assert!(matches!(refused, Err(EnrolError::ForeignCa)), "{refused:?}");
        }
        assert_eq!(fs::read_to_string(&host.files.certificate).unwrap(), host.old.certificate);
    }
}
