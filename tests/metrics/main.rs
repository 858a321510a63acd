//! `/metrics`: the numbers that scrapegate reports about itself, compared with what both peers saw.

mod cases;
mod ledger;
mod page;
mod phases;
mod reload;
mod setup;
mod status;

#[path = "../tls/forge.rs"]
#[expect(dead_code, reason = "shared with the TLS tests, which need more of it")]
mod forge;
#[path = "../exporters/stage.rs"]
#[expect(dead_code, reason = "shared with the tests of exporters, which need more of it")]
mod stage;
#[path = "../support/mod.rs"]
mod support;
