//! systemd. Without a service manager, or on other systems, does nothing.

mod activation;
mod notifier;
#[cfg(unix)]
mod outbox;
#[cfg(unix)]
mod watchdog;

pub use self::{
    activation::{ActivationError, listener},
    notifier::Notifier,
};
