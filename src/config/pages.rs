//! The proxy's own pages.

use super::{
    diagnostics::Diagnostics,
    endpoint::Advertised,
    ini::Document,
    keys,
    section_reader::{Reported, SectionReader},
    values,
};

/// The proxy's own pages: the status page and service discovery.
#[derive(Clone, Debug)]
pub struct PageConfig {
    /// `[proxy] status-page`. Default true.
    pub status_page: bool,
    /// `[proxy] advertise`: where scrapers reach the proxy, for discovery. If absent, discovery
    /// uses the request's `Host`.
    pub advertise: Option<Advertised>,
}

impl PageConfig {
    pub(super) fn read(
        document: &Document,
        diagnostics: &mut Diagnostics,
    ) -> Result<Self, Reported> {
        let mut reader = SectionReader::of_table(document, &keys::PROXY, diagnostics);
        let status_page = reader.read_or("status-page", values::boolean, "True");
        let advertise = reader.read("advertise", Advertised::parse);
        Ok(Self { status_page: status_page?, advertise: advertise?.map(|located| located.value) })
    }
}
