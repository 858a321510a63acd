//! Whatever an exporter sends and however a scraper reads: the body that comes out is a prefix of the one
//! that went in, it ends cleanly if and only if the exporter's message was complete, sound and in
//! time, the scrape is recorded once, and nothing is left behind.
//! [`scrapegate_fuzz::relay`] has the whole property.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::relay::check(input));
