//! A peer with any certificates is trusted only with a trust anchor itself or with a certificate
//! that a valid CA signed, and the names in its certificate are sane. The complete property:
//! [`scrapegate_fuzz::client_certificate`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::client_certificate::check(input));
