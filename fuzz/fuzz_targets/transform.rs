//! Any chain of transforms behind any source: the body ends whole if and only if the source ended
//! whole and no transform failed. The complete property: [`scrapegate_fuzz::transform`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::transform::check(input));
