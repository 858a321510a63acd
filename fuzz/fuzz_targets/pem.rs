//! Whatever a PEM file has in it: each block is used or reported, and what others read is read.
//! [`scrapegate_fuzz::pem`] has the whole property.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::pem::check(input));
