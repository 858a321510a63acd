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
/// service's user if there is one and `config` is the service's; the result is the name then.
///
/// # Errors
/// See [`Error`].
#[cfg(target_os = "linux")]
pub(super) fn become_user(name: Option<&str>, config: &Path) -> Result<Option<String>, Error> {
    use nix::unistd::{Uid, User};
    let is_services = Uid::effective().is_root() && config.starts_with(crate::config::own_folder());
    let (name, is_default) = match name {
        Some(name) => (name, false),
        None if is_services => (SERVICE, true),
        None => return Ok(None),
    };
    let user = match User::from_name(name) {
        Ok(Some(user)) => user,
        Ok(None) | Err(_) if is_default => return Ok(None),
        Ok(None) => return Err(Error::Unknown(name.to_owned())),
        Err(error) => return Err(Error::Refused(name.to_owned(), error)),
    };
    if user.uid != Uid::effective() {
        drop_to(&user).map_err(|error| Error::Refused(name.to_owned(), error))?;
    }
    Ok(Some(name.to_owned()))
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
