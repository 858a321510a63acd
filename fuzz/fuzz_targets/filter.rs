//! A filter of metric families against a reference that has the whole text. The complete property:
//! [`scrapegate_fuzz::filter`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::filter::check(input));
