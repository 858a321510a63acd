//! One scrape: the body on its way from the exporter to the scraper, and its accounting.

pub mod accounting;
pub mod exporters;
pub mod exposition;
pub mod ledger;
pub mod relay;
