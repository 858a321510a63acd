//! The connection to the scraper, as far as the plan of a scrape depends on it.

/// What a plan depends on in the connection to the scraper.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// Whether the scraper is far away, so that bytes cost more than cycles. By default false.
    pub is_far: bool,
}
