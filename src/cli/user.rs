//! Becoming another user, so that `check` reads what the service could read: with all of its groups,
//! and whatever access-control lists and mounts say.

use std::path::Path;

/// The user of the packaged unit (`packaging/systemd/scrapegate.service`).
#[cfg(target_os = "linux")]
const SERVICE: &str = "scrapegate";

/// Why the user was not changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Nobody has this name.
    #[cfg(target_os = "linux")]
    #[error("there is no user `{0}`")]
    Unknown(String),
    /// The system refuses; only root may become somebody else.
    #[cfg(target_os = "linux")]
    #[error("cannot become the user `{0}`; run it as root")]
    Refused(String, #[source] nix::Error),
    /// Not built for it.
    #[cfg(not(target_os = "linux"))]
    #[error("--user works on Linux only")]
    Unsupported,
}

/// Becomes the user of this name for the rest of the process. Without a name, root becomes the
/// service's user if there is one and `config` is the service's. The result is the name, also that of
/// root if it stays root.
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

/// Whether the file is in the service's folder, however its path is written. A symbolic link belongs to
/// the folder that holds it, and to that of its target.
#[cfg(target_os = "linux")]
fn is_in_own_folder(config: &Path) -> bool {
    let own = crate::config::own_folder();
    let own = own.canonicalize().unwrap_or(own);
    let places = [Some(config), crate::file::folder_of(config)];
    places.into_iter().flatten().any(|it| it.canonicalize().is_ok_and(|it| it.starts_with(&own)))
}

/// The groups first: a user who is not root may not change them.
#[cfg(target_os = "linux")]
fn drop_to(user: &nix::unistd::User) -> nix::Result<()> {
    let name = std::ffi::CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
    nix::unistd::initgroups(&name, user.gid)?;
    nix::unistd::setgid(user.gid)?;
    nix::unistd::setuid(user.uid)
}

/// Nobody else can be become here.
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
