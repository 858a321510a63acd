//! Restrictions of enrollment, and the key that it generates.

use super::{
    clients::{self, AddressRange},
    diagnostics::Diagnostics,
    ini::Document,
    keys,
    section_reader::{Reported, SectionReader},
    values,
};
use crate::common::deadline::Budget;

/// Restrictions of enrollment, and the key that it generates.
#[derive(Clone, Debug)]
pub struct EnrolmentConfig {
    /// `[proxy] enrol-from`: the addresses that may enroll the host. If empty, all addresses.
    pub from: Vec<AddressRange>,
    /// `[proxy] enrol-window`, counted from the start of the process. If absent, enrollment is
    /// never closed.
    pub window: Option<Budget>,
    /// `[proxy] enrol-key`: the kind of the key that enrollment generates. Default RSA-4096.
    pub key: KeyKind,
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

const KEY_KINDS: &[(&str, KeyKind)] = &[("rsa4096", KeyKind::Rsa4096), ("ecdsa", KeyKind::Ecdsa)];

impl EnrolmentConfig {
    pub(super) fn read(
        document: &Document,
        diagnostics: &mut Diagnostics,
    ) -> Result<Self, Reported> {
        let mut reader = SectionReader::of_table(document, &keys::PROXY, diagnostics);
        let from = reader.read("enrol-from", clients::address_ranges);
        let window = reader.read("enrol-window", values::seconds);
        let key = reader.read_or("enrol-key", values::one_of(KEY_KINDS), "rsa4096");
        Ok(Self {
            from: from?.map_or_else(Vec::new, |from| from.value),
            window: window?.map(|window| window.value),
            key: key?,
        })
    }
}
