//! Whatever the scraper's timeout header says: the deadline is what the docs say, within its bounds,
//! and what is no finite positive number is ignored.
//! [`scrapegate_fuzz::scrape_timeout`] has the whole property.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| scrapegate_fuzz::scrape_timeout::check(input));
