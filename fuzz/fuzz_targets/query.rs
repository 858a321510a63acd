//! Whatever stands in the query: the route agrees with an independent decoder, nothing is decoded
//! twice, and what is passed on is the query without `exporter`, byte for byte.
//! [`scrapegate_fuzz::query`] has the whole property.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::query::check(input));
