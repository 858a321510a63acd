//! The configuration of enrollment.

use std::{path::PathBuf, time::Duration};

use crate::config::{AddressRange, KeyKind};

/// The paths of the `autossl-*` files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentPaths {
    /// `autossl-key-file`. Generated if it is missing.
    pub key: PathBuf,
    /// `autossl-csr-file`: a copy of the signing request for people. Written, and never read.
    pub signing_request: PathBuf,
    /// `autossl-crt-file`.
    pub certificate: PathBuf,
    /// `autossl-ca-file`.
    pub ca: PathBuf,
}

/// Whether the host already has a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolmentKind {
    /// The host has no certificate yet. As with the agent, the first client that connects can
    /// enroll it, unless [`EnrolmentPolicy`] restricts that.
    First,
    /// The host has a certificate. Only clients that it authorizes may renew it.
    Renewal,
}

/// The configuration of enrollment.
#[derive(Clone, Debug)]
pub struct EnrolmentPolicy {
    /// The paths of the files.
    pub files: EnrolmentPaths,
    /// `[proxy] enrol-from`. If empty, all addresses are allowed.
    pub from: Vec<AddressRange>,
    /// `[proxy] enrol-window`, counted from the start of the process. Only for
    /// [`EnrolmentKind::First`].
    pub window: Option<Duration>,
    /// `[proxy] enrol-key`: the kind of a key that must be generated.
    pub key: KeyKind,
    /// The limit of a request's body, counted from the end of its head: `header-timeout`.
    pub body_timeout: Duration,
}
