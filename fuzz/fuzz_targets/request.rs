//! Any bytes of a scraper: exporters get only the requests that docs/operations/security.md
//! describes, no request is sent or answered twice, and usual requests get the right answer. The
//! complete property: [`scrapegate_fuzz::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::request::check(input));
