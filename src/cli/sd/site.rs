//! What all formats print: the exporters of this host, and where their proxy is.

use super::error::Error;
use crate::{
    common::exporter::{ExporterName, ScrapeRules},
    config::{Advertised, Config},
    http::discovery,
};

/// The exporters, and the address of their proxy.
pub(super) struct Site<'a> {
    pub(super) config: &'a Config,
    /// `HOST:PORT` of the proxy.
    pub(super) target: String,
    /// The enabled exporters, in file order.
    pub(super) exporters: Vec<(&'a ExporterName, &'a ScrapeRules)>,
}

impl<'a> Site<'a> {
    pub(super) fn of(config: &'a Config) -> Result<Self, Error> {
        let advertised = match &config.pages.advertise {
            Some(advertised) => advertised.clone(),
            None => this_machine()?,
        };
        if advertised.port.is_none() && config.listener.address.port() == 0 {
            return Err(Error::AnyPort);
        }
        let enabled = config.exporters.iter().filter(|exporter| exporter.enabled);
        Ok(Self {
            config,
            target: advertised.target(config.listener.address.port()),
            exporters: enabled.map(|exporter| (&exporter.name.value, &exporter.rules)).collect(),
        })
    }

    pub(super) fn target_groups(&self) -> String {
        let exporters = self.exporters.iter().copied();
        let groups =
            discovery::groups(self.config.listener.transport.scheme(), &self.target, exporters);
        format!("{:#}", serde_json::json!(groups))
    }
}

fn this_machine() -> Result<Advertised, Error> {
    let name = gethostname::gethostname();
    let name = name.into_string().map_err(|_| Error::HostName)?;
    Advertised::parse(&name).map_err(|_| Error::HostName)
}

/// A quoted YAML string. Every JSON string is also a YAML string.
pub(super) fn quoted(text: &str) -> serde_json::Value {
    text.into()
}
