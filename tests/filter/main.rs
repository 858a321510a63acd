//! `metrics-drop` over sockets, with and without compression after it: deadlines, slow scrapers, slow
//! exporters, and lines without an end.
//!
//! `tests/truncation` has the exporters that die, `tests/compression` what is asked for, and
//! `tests/slow_readers.rs` the memory.

mod endless;
mod late;
mod slow;

use scrapegate::common::compression::ContentCoding;
use scrapegate_harness::{
    client::{Client, Received},
    decoder::Decoded,
};

/// What stands between exporter and scraper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chain {
    /// `metrics-drop`.
    drops: Option<&'static str>,
    coding: Option<ContentCoding>,
}

/// All chains that contain a filter or an encoder. The filters drop `left_…`, or nothing.
fn chains() -> Vec<Chain> {
    let codings = [None, Some(ContentCoding::Zstd), Some(ContentCoding::Gzip)];
    let filters = [None, Some("left_.*"), Some("no_such_family")];
    let all = filters.into_iter().flat_map(|drops| codings.map(|coding| Chain { drops, coding }));
    all.filter(|chain| chain.drops.is_some() || chain.coding.is_some()).collect()
}

impl Chain {
    /// The keys of the exporter's section.
    fn keys(self) -> String {
        let drop = self.drops.map_or_else(String::new, |drops| format!("metrics-drop = {drops}\n"));
        let compression = if self.coding.is_some() { "always" } else { "off" };
        format!("{drop}compression = {compression}\n")
    }

    /// Sends a request that accepts the coding of this chain.
    fn ask(self, client: &mut Client, target: &str) {
        let coding = self.coding.map_or("identity", ContentCoding::name);
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: {coding}\r\n\r\n");
        client.send(request).expect("sent");
    }

    /// What a scraper makes of a body, and whether its decoder sees the end. Without a coding, that
    /// is up to the framing.
    fn decoded(self, body: &Received) -> (Vec<u8>, Option<bool>) {
        let Some(coding) = self.coding else { return (body.start.clone(), None) };
        let Decoded { bytes, is_clean } = Decoded::of(coding, &body.start);
        (bytes, Some(is_clean))
    }

    /// The lines that pass.
    fn passed(self, text: &str) -> String {
        let passes = |line: &&str| self.drops != Some("left_.*") || !line.starts_with("left_");
        text.split_inclusive('\n').filter(passes).collect()
    }
}
