//! `/metrics`: the numbers that scrapegate reports about itself, compared with what both peers saw.

mod cases;
mod ledger;
mod page;
mod phases;
mod reload;
mod setup;
mod status;
