//! Any body, in any pieces and with any pauses, compressed: the decoder produces the body, and a clean
//! end if and only if the source ended whole. The complete property: [`scrapegate_fuzz::compression`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::compression::check(input));
