//! Any PEM file: each block is used or reported, and everything that other parsers read is read.
//! The complete property: [`scrapegate_fuzz::pem`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::pem::check(input));
