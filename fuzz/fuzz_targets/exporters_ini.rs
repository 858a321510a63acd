//! Any exporters file: an accepted file that is written again has the same meaning, and each error
//! names its line. The complete property: [`scrapegate_fuzz::exporters_ini`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::exporters_ini::check(input));
