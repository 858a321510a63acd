//! One proxy before one exporter, and a connection to read the metrics.

use std::cell::RefCell;

use scrapegate_harness::{
    client::Client,
    exporter::{Exporter, Script},
    metrics::Samples,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

pub(crate) struct Setup {
    pub(crate) pki: Pki,
    pub(crate) exporter: Exporter,
    pub(crate) proxy: Proxy,
    reader: RefCell<Client>,
}

impl Setup {
    /// One exporter under each of these names, each with the keys of its section.
    pub(crate) fn new(proxy_keys: &str, sections: &[(&str, &str)], script: impl Script) -> Self {
        let exporter = Exporter::start(script);
        let sections = sections.iter().map(|(name, keys)| exporter.section(name) + keys);
        let sections: String = sections.collect();
        Self::before(Pki::new(), exporter, proxy_keys, &sections)
    }

    /// A proxy with these sections, before an exporter that already runs.
    pub(crate) fn before(pki: Pki, exporter: Exporter, proxy_keys: &str, sections: &str) -> Self {
        let proxy = Proxy::start(&pki.config_ini(proxy_keys), sections);
        let reader = connect(&pki, &proxy);
        Self { pki, exporter, proxy, reader: RefCell::new(reader) }
    }

    pub(crate) fn connect(&self) -> Client {
        connect(&self.pki, &self.proxy)
    }

    pub(crate) fn samples(&self) -> Samples {
        Samples::of(&mut self.reader.borrow_mut())
    }

    /// Polls the metrics until `wanted` accepts them.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl FnMut(&Samples) -> bool) -> Samples {
        Samples::wait_for(&mut self.reader.borrow_mut(), "", what, wanted)
    }
}

fn connect(pki: &Pki, proxy: &Proxy) -> Client {
    Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake")
}
