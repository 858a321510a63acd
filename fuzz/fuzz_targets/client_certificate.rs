//! Whatever a peer shows: it is trusted only with a trust anchor itself or with what a valid CA signed,
//! and its names are sane.
//! [`scrapegate_fuzz::client_certificate`] has the whole property.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::client_certificate::check(input));
