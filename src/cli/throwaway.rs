//! A proxy in this process with temporary certificates, for `demo` and `probe`.

mod certificates;
mod error;
mod files;
mod proxy;

pub(super) use self::{
    certificates::{Certificates, reachable},
    error::Error,
    files::TemporaryFiles,
    proxy::{RunningProxy, load},
};
