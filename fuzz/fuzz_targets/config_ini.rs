//! Any `config.ini`: no panic, diagnostics name existing lines, the file is accepted if and only if
//! no diagnostic is an error, and neither plain HTTP nor unauthenticated clients are accepted unless the
//! file enables them. The complete property: [`scrapegate_fuzz::config_ini`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::config_ini::check(input));
