//! Any query: the route agrees with an independent decoder, nothing is decoded twice, and the
//! forwarded query is the query without `exporter`, byte for byte. The complete property:
//! [`scrapegate_fuzz::query`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::query::check(input));
