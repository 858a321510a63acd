//! The proxy between two ends in memory, in paused time.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use scrapegate::downstream::state::ConnectionState;
use scrapegate_harness::in_memory::{Proxy, activity_within, scripted::Stream};
use tokio::{runtime::Builder, time::Instant};

use crate::PATIENCE;

/// Runs `scene` on its own runtime in paused time.
pub(crate) fn in_paused_time<T>(scene: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(scene)
}

/// Serves the connection of `scraper` with `proxy` until it ends. Returns its duration.
///
/// # Panics
///
/// If the connection's task runs more than `most` times.
pub(crate) async fn serve(
    proxy: &Proxy,
    scraper: impl FnOnce(Arc<ConnectionState>) -> Stream,
    most: usize,
) -> Duration {
    let begun = Instant::now();
    let state = activity_within(PATIENCE);
    let mut task = pin!(proxy.serve_as(scraper(Arc::clone(&state)), state));
    let mut polls = 0;
    poll_fn(|cx| {
        polls += 1;
        assert!(polls <= most, "the connection's task ran {polls} times");
        task.as_mut().poll(cx)
    })
    .await;
    begun.elapsed()
}
