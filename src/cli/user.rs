//! Switches to another user, so that `check` can read exactly what the service can read. This
//! covers supplementary groups, access-control lists and mounts.

use std::path::Path;

/// The service user, as in `packaging/systemd/scrapegate.service`.
#[cfg(target_os = "linux")]
const SERVICE: &str = "scrapegate";

/// Why the user was not changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No user has this name.
    #[cfg(target_os = "linux")]
    #[error("user `{0}` does not exist")]
    Unknown(String),
    /// The system refuses. Only root can switch to another user.
    #[cfg(target_os = "linux")]
    #[error("cannot switch to user `{0}`; run this command as root")]
    Refused(String, #[source] nix::Error),
    /// This platform is not supported.
    #[cfg(not(target_os = "linux"))]
    #[error("--user is supported only on Linux")]
    Unsupported,
}

/// Switches to user `name` for the rest of the process. Without a name, root switches to the
/// service user, if that user exists and `config` is in the service's folder.
///
/// Returns the name of the user, or `root` if the process stays root. Returns `None` for any other
/// user.
///
/// # Errors
/// See [`Error`].
#[cfg(target_os = "linux")]
pub(super) fn become_user(name: Option<&str>, config: &Path) -> Result<Option<String>, Error> {
    use nix::unistd::{Uid, User};
    let is_root = Uid::effective().is_root();
    let unchanged = || is_root.then(|| "root".to_owned());
    let (name, is_default) = match name {
        Some(name) => (name, false),
        None if is_root && is_in_own_folder(config) => (SERVICE, true),
        None => return Ok(unchanged()),
    };
    let user = match User::from_name(name) {
        Ok(Some(user)) => user,
        Ok(None) | Err(_) if is_default => return Ok(unchanged()),
        Ok(None) => return Err(Error::Unknown(name.to_owned())),
        Err(error) => return Err(Error::Refused(name.to_owned(), error)),
    };
    if user.uid != Uid::effective() {
        drop_to(&user).map_err(|error| Error::Refused(name.to_owned(), error))?;
    }
    Ok(Some(name.to_owned()))
}

/// Whether the file is in the service's folder, for any spelling of its path. A symbolic link
/// counts if the link itself or its target is there.
#[cfg(target_os = "linux")]
fn is_in_own_folder(config: &Path) -> bool {
    let own = crate::config::own_folder();
    let own = own.canonicalize().unwrap_or(own);
    let places = [Some(config), crate::common::file::folder_of(config)];
    places.into_iter().flatten().any(|it| it.canonicalize().is_ok_and(|it| it.starts_with(&own)))
}

/// Sets the groups first, because only root may change them.
#[cfg(target_os = "linux")]
fn drop_to(user: &nix::unistd::User) -> nix::Result<()> {
    let name = std::ffi::CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
    nix::unistd::initgroups(&name, user.gid)?;
    nix::unistd::setgid(user.gid)?;
    nix::unistd::setuid(user.uid)
}

/// Does nothing, because this platform is not supported.
///
/// # Errors
/// [`Error::Unsupported`] if a name is given.
#[cfg(not(target_os = "linux"))]
pub(super) fn become_user(name: Option<&str>, _: &Path) -> Result<Option<String>, Error> {
    match name {
        None => Ok(None),
        Some(_) => Err(Error::Unsupported),
    }
}
