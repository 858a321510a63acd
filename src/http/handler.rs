//! Answers one request: route, authorize, find the exporter, connect, relay. Each request has a
//! deadline before the first of these steps that waits.

mod admit;
mod answer;
mod refused;
mod scrape;

use std::{sync::Arc, time::SystemTime};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::HeaderMap,
    http::{request::Parts, uri::Authority},
};
use tokio::time::Instant;

use self::{
    admit::{deadline_of, let_in},
    answer::Answer,
    refused::Refused,
    scrape::{ScrapeRequest, scrape},
};
use crate::{
    common::{
        error::{ConnectionAfter, EnrolError, Methods, Refusal},
        exporter::ExporterName,
        peer::{Host, Peer},
        reload::ReloadOutcome,
        shutdown::ShutdownPhase,
    },
    http::{
        body::ResponseBody,
        control::ConnectionControl,
        discovery::ProxyEndpoint,
        enrol::EnrolmentEndpoint,
        metrics::Format,
        page, respond,
        route::{self, Route},
        state::AppState,
    },
    scrape::exporters::Exporters,
};

/// Answers one request. Never fails: an error before the response head becomes a response, an error
/// after the head ends the body.
///
/// hyper drops the future if the scraper closes the connection. Then the connection to the exporter
/// is closed and a scrape in progress is counted as aborted.
pub async fn handle<C: ConnectionControl + 'static>(
    app: Arc<AppState>,
    peer: Arc<Peer>,
    control: Arc<C>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let arrival = Instant::now();
    control.request_arrived();
    // Only enrollment reads a body. Dropping any other body tells hyper not to wait for it.
    let (head, body) = request.into_parts();
    let answered = answer(&app, &peer, &control, &head, body, arrival).await;
    let answered = answered.and_then(|answer| bounded(answer, &app, &peer, &*control));
    if let Err(refused) = &answered {
        refused.count(&app.metrics, &peer);
    }
    match answered {
        // After a request body the start of the next request is uncertain, so close the connection.
        Ok(Answer::Own(response)) if has_body(&head) => {
            control.responding(ConnectionAfter::Close);
            respond::last(response)
        }
        Ok(Answer::Own(response)) => {
            control.responding(ConnectionAfter::Keep);
            response
        }
        Ok(Answer::Relayed(response, deadline)) => {
            control.relaying(deadline);
            response
        }
        Err(Refused { refusal, .. }) if has_body(&head) => {
            control.responding(ConnectionAfter::Close);
            respond::last(respond::refusal(&refusal))
        }
        Err(Refused { refusal, .. }) => {
            control.responding(refusal.info().connection);
            respond::refusal(&refusal)
        }
    }
}

fn has_body(head: &Parts) -> bool {
    head.method == Method::POST && head.uri.path() == route::ENROLMENT
}

/// Refuses a response of the proxy itself if the responses that clients have not read yet leave no
/// room for it.
fn bounded(
    answer: Answer,
    app: &AppState,
    peer: &Peer,
    control: &impl ConnectionControl,
) -> Result<Answer, Refused> {
    if let Answer::Own(response) = &answer {
        let bytes = response.body().size_hint().lower();
        let page = app.answers.hold(Host::of(peer.address.ip()), bytes);
        control.holds(page.ok_or(Refusal::TooManyAnswers)?);
    }
    Ok(answer)
}

async fn answer<C: ConnectionControl + 'static>(
    app: &AppState,
    peer: &Arc<Peer>,
    control: &Arc<C>,
    head: &Parts,
    body: Incoming,
    arrival: Instant,
) -> Result<Answer, Refused> {
    if control.is_dismissed() {
        return Err(Refusal::Dismissed.into());
    }
    let enrols_only = app.enrolment.as_ref().is_some_and(EnrolmentEndpoint::serves_only_enrolment);
    if enrols_only && head.uri.path() != route::ENROLMENT {
        return Err(Refusal::from(EnrolError::NotEnrolled).into());
    }
    let host = route::well_formed(head)?;
    // A client that is not authorized must not learn whether the path exists, so the route is only
    // used after the check.
    let route = route::route(&head.uri);
    let deadline = deadline_of(app, route.as_ref().ok(), head, arrival);
    let_in(app, peer, head, deadline).await?;
    // The password check takes time. Meanwhile a reload may have removed the client.
    if control.is_dismissed() {
        return Err(Refusal::Dismissed.into());
    }
    match (route?, &app.exporters) {
        // A path that is switched off is unknown, whatever the method.
        (Route::Scrape { .. } | Route::List | Route::Discovery, None) => {
            Err(Refusal::UnknownPath.into())
        }
        (Route::Status, _) if !app.status_page => Err(Refusal::UnknownPath.into()),
        (Route::Enrolment { domain }, _) => {
            let control = Arc::clone(control) as Arc<dyn ConnectionControl>;
            Ok(Answer::Own(enrol(app, peer, control, head, domain, body, arrival).await?))
        }
        (Route::Reload, _) => {
            reload(app, &head.method).await?;
            Ok(Answer::Own(respond::text(StatusCode::OK, "reloaded\n")))
        }
        _ if !Methods::GetAndHead.contain(&head.method) => {
            Err(Refusal::Method(Methods::GetAndHead).into())
        }
        (Route::Scrape { exporter, forwarded }, Some(exporters)) => {
            let exporter = exporters.get(&exporter).ok_or_else(|| Refused::unknown(&exporter))?;
            let request =
                ScrapeRequest { exporter, head, forwarded: &forwarded, arrival, deadline };
            scrape(app, peer, control, &request).await
        }
        (Route::List, Some(exporters)) => Ok(Answer::Own(list(exporters))),
        (Route::Discovery, Some(_)) if app.reload.state().last_failed => {
            Err(Refusal::BrokenConfiguration.into())
        }
        (Route::Discovery, Some(exporters)) => {
            Ok(Answer::Own(target_groups(&app.proxy_endpoint, &host, exporters)))
        }
        (Route::Metrics | Route::Status, _)
            if !app.answers.has_room(Host::of(peer.address.ip())) =>
        {
            Err(Refusal::TooManyAnswers.into())
        }
        (Route::Metrics, _) => Ok(Answer::Own(metrics(app, &head.headers, arrival))),
        (Route::Status, exporters) => Ok(Answer::Own(status(app, exporters.as_ref(), arrival))),
        (Route::Healthy, _) => Ok(Answer::Own(respond::text(StatusCode::OK, "healthy\n"))),
        (Route::Ready, _) if app.is_draining() => Err(Refused::readiness(Refusal::Draining)),
        (Route::Ready, _) => Ok(Answer::Own(respond::text(StatusCode::OK, "ready\n"))),
    }
}

/// Requests a reload, and waits until it is done. If the shutdown begins first, the shutdown wins.
async fn reload(app: &AppState, method: &Method) -> Result<(), Refusal> {
    if !app.http_reload {
        return Err(Refusal::UnknownPath);
    }
    if !Methods::Post.contain(method) {
        return Err(Refusal::Method(Methods::Post));
    }
    let mut shutdown = app.shutdown.clone();
    let outcome = tokio::select! {
        biased;
        _ = ShutdownPhase::Serving.next(&mut shutdown) => ReloadOutcome::ShuttingDown,
        outcome = app.reload.reload() => outcome,
    };
    match outcome {
        ReloadOutcome::Applied => Ok(()),
        ReloadOutcome::Rejected => Err(Refusal::ReloadRefused),
        ReloadOutcome::NoResources => Err(Refusal::NoResources(
            "cannot read the configuration files; see the previous log record".into(),
        )),
        ReloadOutcome::ShuttingDown => Err(Refusal::Draining),
    }
}

/// `/autotls`: returns the signing request, or accepts the certificate.
async fn enrol(
    app: &AppState,
    peer: &Peer,
    control: Arc<dyn ConnectionControl>,
    head: &Parts,
    domain: Option<String>,
    body: Incoming,
    arrival: Instant,
) -> Result<Response<ResponseBody>, Refusal> {
    let endpoint = app.enrolment.as_ref().ok_or(Refusal::UnknownPath)?;
    if !Methods::GetHeadAndPost.contain(&head.method) {
        return Err(Refusal::Method(Methods::GetHeadAndPost));
    }
    endpoint.admit(peer)?;
    if head.method == Method::POST {
        endpoint.take(peer, control, body, arrival).await?;
        return Ok(respond::text(StatusCode::OK, "stored\n"));
    }
    let request = endpoint.signing_request(domain).await?;
    Ok(respond::json(serde_json::json!({ "csr": request }).to_string()))
}

fn list(exporters: &Exporters) -> Response<ResponseBody> {
    let names: Vec<&str> = exporters.names().map(ExporterName::as_str).collect();
    respond::json(serde_json::Value::from(names).to_string())
}

fn target_groups(
    proxy_endpoint: &ProxyEndpoint,
    host: &Authority,
    exporters: &Exporters,
) -> Response<ResponseBody> {
    let exporters =
        exporters.iter().map(|exporter| (&exporter.config.name, &exporter.config.rules));
    respond::json(serde_json::json!(proxy_endpoint.groups(host, exporters)).to_string())
}

fn metrics(app: &AppState, headers: &HeaderMap, now: Instant) -> Response<ResponseBody> {
    let format = Format::accepted(headers);
    let reload = app.reload.state();
    let exporters = app.exporters.as_ref();
    let written = app.metrics.render(exporters, reload, format, now.into_std());
    respond::metrics(format.content_type(), written)
}

fn status(
    app: &AppState,
    exporters: Option<&Exporters>,
    arrival: Instant,
) -> Response<ResponseBody> {
    let now = page::Now { instant: arrival.into_std(), time: SystemTime::now() };
    let exporters = exporters.into_iter().flat_map(Exporters::iter).map(AsRef::as_ref);
    respond::page(page::status(exporters, &app.metrics.expiries(), app.reload.state(), now))
}
