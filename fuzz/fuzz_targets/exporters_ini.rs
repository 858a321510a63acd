//! Whatever is in the exporters file: what is accepted and written down again means the same, and
//! each refusal names its line.
//! [`scrapegate_fuzz::exporters_ini`] has the whole property.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::exporters_ini::check(input));
