//! The regular scrapers: one scrape every 100 ms over a new connection, and one over a kept
//! connection.

use std::{io, sync::Arc, thread::Scope, time::Duration};

use scrapegate_harness::{
    body::{Body, Kind},
    client::{Client, Response},
    pki::BOTH_VERSIONS,
    trial::{span::Span, tally::Tally},
};

use crate::target::{CONTROL, GOOD, Target, scrape_target};

const PERIOD: Duration = Duration::from_millis(100);

/// Starts both scrapers.
pub(crate) fn start<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    target: &'env Target,
    span: &'env Span,
) -> [Arc<Tally>; 2] {
    let (fresh, kept) = (Tally::new("a new connection"), Tally::new("a kept connection"));
    let counted = Arc::clone(&fresh);
    scope.spawn(move || {
        for due in span.beat(PERIOD) {
            let scraped = connect(target).and_then(|mut client| scrape(&mut client));
            counted.count(span, due, scraped);
        }
    });
    let counted = Arc::clone(&kept);
    scope.spawn(move || {
        let mut connection = None;
        for due in span.beat(PERIOD) {
            let scraped = connection.take().map_or_else(|| connect(target), Ok).and_then(
                |mut client: Client| {
                    scrape(&mut client)?;
                    connection = Some(client);
                    Ok(())
                },
            );
            counted.count(span, due, scraped);
        }
    });
    [fresh, kept]
}

fn connect(target: &Target) -> io::Result<Client> {
    Client::connect(target.address(), target.pki.client(BOTH_VERSIONS))
}

fn scrape(client: &mut Client) -> io::Result<()> {
    client.send_get(&scrape_target(GOOD))?;
    let Response { head, body } = client.read_response()?;
    let is_right = body.is_complete() && body.sha256 == Body::sha256(Kind::Text, CONTROL);
    if head.status == 200 && is_right {
        return Ok(());
    }
    let (status, reason, end) = (head.status, head.reason, body.end);
    Err(io::Error::other(format!("{status} {reason}, {end:?}")))
}
