//! Whatever a scraper sends: exporters get only what docs/operations/security.md says of its requests, no request is
//! asked or answered twice, and usual ones are answered as they must be.
//! [`scrapegate_fuzz::request`] has the whole property.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::request::check(input));
