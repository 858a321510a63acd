//! Any timeout header: the deadline follows the documentation, within its bounds, and a header that
//! is not a finite positive number is ignored. The complete property:
//! [`scrapegate_fuzz::scrape_timeout`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::scrape_timeout::check(input));
