//! Which clients are authorized.

use super::{
    basic_auth::{self, BasicAuth},
    clients::{self, ClientPattern},
    diagnostics::{Diagnostics, Located},
    ini::Document,
    keys,
    section_reader::{Reported, SectionReader},
};

/// Which clients are authorized, in addition to the check of their certificate.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// `[proxy] client-allow`. If empty, every certificate that the CA signed is accepted.
    pub client_allow: Vec<ClientPattern>,
    /// `[default] auth`: HTTP Basic in addition to the client certificate. Default none.
    pub basic_auth: Option<Located<BasicAuth>>,
}

impl AccessConfig {
    pub(super) fn read(
        document: &Document,
        diagnostics: &mut Diagnostics,
    ) -> Result<Self, Reported> {
        let mut proxy = SectionReader::of_table(document, &keys::PROXY, diagnostics);
        let client_allow = proxy.read("client-allow", clients::client_patterns);
        let mut default = SectionReader::of_table(document, &keys::DEFAULT, diagnostics);
        let basic_auth = default.read("auth", basic_auth::parse);
        Ok(Self {
            client_allow: client_allow?.map_or_else(Vec::new, |allow| allow.value),
            basic_auth: basic_auth?,
        })
    }
}
