//! Any bytes of an exporter and any reading scraper: the relayed body is a prefix of the exporter's
//! body, it ends cleanly if and only if the exporter's message is complete, passes the integrity
//! rule and is in time, the scrape is recorded once, and all resources are released. The complete
//! property: [`scrapegate_fuzz::relay`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::relay::check(input));
