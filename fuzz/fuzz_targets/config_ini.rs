//! Whatever is in `config.ini`: never a panic, findings that name a line that there is, accepted if
//! and only if none is an error, and no plain text or stranger let in without being written out.
//! [`scrapegate_fuzz::config_ini`] has the whole property.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::config_ini::check(input));
