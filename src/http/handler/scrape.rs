//! Answers one request for an exporter's metrics.

use std::sync::Arc;

use hyper::{Response, http::request::Parts};
use tokio::time::{Instant, timeout_at};

use super::{
    admit::{asks_late, charged},
    answer::Answer,
    refused::Refused,
};
use crate::{
    common::{
        deadline::Deadline,
        error::{Refusal, UpstreamError},
        peer::Peer,
    },
    http::{body::ResponseBody, control::ConnectionControl, state::AppState},
    scrape::{
        body::ScrapeBody,
        delivery::DeliveryControl,
        encoding::Encoding,
        exporters::{ActiveExporter, ScrapePermit},
        fetch::Fetch,
        plan::Plan,
    },
};

pub(super) struct ScrapeRequest<'a> {
    pub(super) exporter: &'a Arc<ActiveExporter>,
    pub(super) head: &'a Parts,
    /// The part of the query that the exporter gets.
    pub(super) forwarded: &'a str,
    pub(super) arrival: Instant,
    pub(super) deadline: Deadline,
}

/// Scrapes the exporter up to the first bytes of its body. The connection owns the accounting from
/// here on, and the response owns the connection to the exporter.
pub(super) async fn scrape<C: ConnectionControl + 'static>(
    app: &AppState,
    peer: &Arc<Peer>,
    control: &Arc<C>,
    request: &ScrapeRequest<'_>,
) -> Result<Answer, Refused> {
    let ScrapeRequest { exporter, arrival, deadline, .. } = *request;
    let asks_late = asks_late(arrival, Instant::now(), deadline);
    let delivery = control.delivery();
    delivery.begin(Arc::clone(exporter), Arc::clone(peer), arrival.into_std());
    if asks_late {
        delivery.asks_late();
    }
    let permit = if app.is_draining() {
        Err(Refusal::Draining)
    } else {
        exporter.try_acquire().ok_or(Refusal::TooManyScrapes)
    };
    let response = match permit {
        Ok(permit) => first_bytes(app, control, request, permit)
            .await
            .map_err(|error| charged(error, asks_late, deadline)),
        Err(refusal) => Err(refusal),
    };
    match response {
        Ok(response) => Ok(Answer::Relayed(response, deadline)),
        Err(refusal) => {
            delivery.refuse(&refusal);
            Err(Refused::scrape(refusal))
        }
    }
}

/// Connects, sends the request, and waits for the head and the first bytes of the body. An error up
/// to here is answered with a clean 502 or 504.
async fn first_bytes<C: ConnectionControl + 'static>(
    app: &AppState,
    control: &Arc<C>,
    request: &ScrapeRequest<'_>,
    permit: ScrapePermit,
) -> Result<Response<ResponseBody>, UpstreamError> {
    let &ScrapeRequest { exporter, head, forwarded, deadline, .. } = request;
    let delivery = control.delivery();
    let plan = Plan::new(&exporter.config, head, forwarded, &app.transforms, control.link());
    let (upstream, response, fetch) =
        Fetch::open(plan, &app.connector, permit, deadline, delivery).await?;
    let outlet = Arc::clone(control) as Arc<dyn DeliveryControl>;
    let mut body = ScrapeBody::new(fetch, &upstream, outlet);
    match timeout_at(deadline.instant(), body.prime()).await {
        Ok(Ok(())) => {}
        Ok(Err(abort)) => return Err(UpstreamError::before_first_byte(abort)),
        Err(_) => return Err(delivery.late_first_byte()),
    }
    delivery.first_byte(upstream.status, &upstream.headers, Encoding::of(&response.headers));
    if upstream.length_ignored {
        delivery.length_ignored();
    }
    Ok(Response::from_parts(response, ResponseBody::scrape(body)))
}
