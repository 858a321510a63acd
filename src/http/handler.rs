//! Answers one request: route, authorize, find the exporter, connect, relay. Each request has a
//! deadline before the first of these steps that waits.

mod admit;

use std::{
    error::Error as _,
    sync::{Arc, Weak},
    time::SystemTime,
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::HeaderMap,
    http::{request::Parts, uri::Authority},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use self::admit::{asks_late, charged, deadline_of, let_in};
use crate::{
    common::{
        deadline::Deadline,
        error::{Chain, ConnectionAfter, EnrolError, Methods, Refusal, UpstreamError},
        exporter::ExporterName,
        peer::{ANY_PEER, Host, Peer},
        reload::{ReloadOutcome, ReloadRequests},
        shutdown::ShutdownPhase,
    },
    downstream::activity::Activity,
    http::{
        access::Access,
        answers::OwnAnswers,
        discovery::ProxyEndpoint,
        enrol::EnrolmentEndpoint,
        metrics::{Format, Metrics},
        page, respond,
        route::{self, Route},
    },
    scrape::{
        accounting::{AbortCause, Scrape},
        exporters::{ActiveExporter, Exporters},
        relay::{self, RelayBody, ResponseBody},
    },
    upstream::{self, Connector, UpstreamHead},
};

/// The state that all requests share. A reload replaces the whole service.
#[derive(Debug)]
pub struct Service {
    /// The configured exporters. `None` with `[prometheus] enabled = False`.
    pub exporters: Option<Exporters>,
    /// Which clients may ask: the allow-list and HTTP Basic.
    pub access: Access,
    /// Enrollment of this host at a monitoring server. `None` without `try-autossl`.
    pub enrolment: Option<EnrolmentEndpoint>,
    /// Connects to exporters.
    pub connector: Connector,
    /// How much earlier than the scraper's own timeout a scrape must end. `0.25` s by default.
    pub scrape_timeout_offset: std::time::Duration,
    /// Under which address service discovery announces the proxy.
    pub proxy_endpoint: ProxyEndpoint,
    /// Whether the status page is served at `/`.
    pub status_page: bool,
    /// Bounds the memory of the proxy's own responses that clients do not read.
    pub answers: Arc<OwnAnswers>,
    /// All counts that do not belong to a single exporter.
    pub metrics: Arc<Metrics>,
    /// Requests for a reload, and whether the last one succeeded.
    pub reload: ReloadRequests,
    /// Whether `POST /-/reload` is served.
    pub http_reload: bool,
    /// The phase of the shutdown.
    pub shutdown: watch::Receiver<ShutdownPhase>,
}

/// Answers one request. Never fails: an error before the response head becomes a response, an error
/// after the head ends the body.
///
/// hyper drops the future if the scraper closes the connection. Then the connection to the exporter
/// is closed and a scrape in progress is counted as aborted.
pub async fn handle(
    service: Arc<Service>,
    peer: Arc<Peer>,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let arrival = Instant::now();
    activity.request_arrived();
    // Only enrollment reads a body. Dropping any other body tells hyper not to wait for it.
    let (head, body) = request.into_parts();
    let answered = answer(&service, &peer, &activity, &head, body, arrival).await;
    match answered.and_then(|answer| bounded(answer, &service, &peer, &activity)) {
        // After a request body the start of the next request is uncertain, so close the connection.
        Ok(Answer::Own(response)) if has_body(&head) => {
            activity.responding(true);
            respond::last(response)
        }
        Ok(Answer::Own(response)) => {
            activity.responding(false);
            response
        }
        Ok(Answer::Relayed(response, deadline)) => {
            activity.relaying(deadline);
            response
        }
        Err(refusal) if has_body(&head) => {
            activity.responding(true);
            respond::last(respond::refusal(&refusal))
        }
        Err(refusal) => {
            activity.responding(refusal.info().connection == ConnectionAfter::Close);
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
    service: &Service,
    peer: &Peer,
    activity: &Activity,
) -> Result<Answer, Refusal> {
    if let Answer::Own(response) = &answer {
        let bytes = response.body().size_hint().lower();
        match service.answers.hold(Host::of(peer.address.ip()), bytes) {
            Some(page) => activity.holds(page),
            None => return Err(refused(service, peer, Refusal::TooManyAnswers, None)),
        }
    }
    Ok(answer)
}

enum Answer {
    /// A response of the proxy itself.
    Own(Response<ResponseBody>),
    /// An exporter's answer, which must be complete by the deadline.
    Relayed(Response<ResponseBody>, Deadline),
}

async fn answer(
    service: &Service,
    peer: &Arc<Peer>,
    activity: &Arc<Activity>,
    head: &Parts,
    body: Incoming,
    arrival: Instant,
) -> Result<Answer, Refusal> {
    let routed = async {
        if activity.is_dismissed() {
            return Err(Refusal::Dismissed);
        }
        let enrols_only =
            service.enrolment.as_ref().is_some_and(EnrolmentEndpoint::serves_only_enrolment);
        if enrols_only && head.uri.path() != route::ENROLMENT {
            return Err(EnrolError::NotEnrolled.into());
        }
        let host = route::well_formed(head)?;
        // A client that is not authorized must not learn whether the path exists, so the route is
        // only used after the check.
        let route = route::route(&head.uri);
        let deadline = deadline_of(service, route.as_ref().ok(), head, arrival);
        let_in(service, peer, head, deadline).await?;
        // The password check takes time. Meanwhile a reload may have removed the client.
        if activity.is_dismissed() {
            return Err(Refusal::Dismissed);
        }
        Ok((route?, host, deadline))
    };
    let (route, host, deadline) = match routed.await {
        Ok(routed) => routed,
        Err(refusal) => return Err(refused(service, peer, refusal, None)),
    };
    match (route, &service.exporters) {
        // A path that is switched off is unknown, whatever the method.
        (Route::Scrape { .. } | Route::List | Route::Discovery, None) => {
            Err(refused(service, peer, Refusal::UnknownPath, None))
        }
        (Route::Status, _) if !service.status_page => {
            Err(refused(service, peer, Refusal::UnknownPath, None))
        }
        (Route::Enrolment { domain }, _) => {
            enrol(service, peer, activity, head, domain, body, arrival)
                .await
                .map(Answer::Own)
                .map_err(|refusal| refused(service, peer, refusal, None))
        }
        (Route::Reload, _) => match reload(service, &head.method).await {
            Ok(()) => Ok(Answer::Own(respond::text(StatusCode::OK, "reloaded\n"))),
            Err(refusal) => Err(refused(service, peer, refusal, None)),
        },
        _ if !Methods::GetAndHead.contain(&head.method) => {
            Err(refused(service, peer, Refusal::Method(Methods::GetAndHead), None))
        }
        (Route::Scrape { exporter, forwarded }, Some(exporters)) => {
            let Some(exporter) = exporters.get(&exporter) else {
                return Err(refused(service, peer, Refusal::UnknownExporter, Some(&exporter)));
            };
            let connector = &service.connector;
            let request = ScrapeRequest {
                connector,
                exporter,
                head,
                forwarded: &forwarded,
                arrival,
                deadline,
            };
            scrape(service, peer, activity, &request).await
        }
        (Route::List, Some(exporters)) => Ok(Answer::Own(list(exporters))),
        (Route::Discovery, Some(_)) if service.reload.state().last_failed => {
            Err(refused(service, peer, Refusal::BrokenConfiguration, None))
        }
        (Route::Discovery, Some(exporters)) => {
            Ok(Answer::Own(target_groups(&service.proxy_endpoint, &host, exporters)))
        }
        (Route::Metrics | Route::Status, _)
            if !service.answers.has_room(Host::of(peer.address.ip())) =>
        {
            Err(refused(service, peer, Refusal::TooManyAnswers, None))
        }
        (Route::Metrics, _) => Ok(Answer::Own(metrics(service, &head.headers, arrival))),
        (Route::Status, exporters) => Ok(Answer::Own(status(service, exporters.as_ref(), arrival))),
        (Route::Healthy, _) => Ok(Answer::Own(respond::text(StatusCode::OK, "healthy\n"))),
        (Route::Ready, _) if is_draining(service) => Err(Refusal::Draining),
        (Route::Ready, _) => Ok(Answer::Own(respond::text(StatusCode::OK, "ready\n"))),
    }
}

/// Requests a reload, and waits until it is done. If the shutdown begins first, the shutdown wins.
async fn reload(service: &Service, method: &Method) -> Result<(), Refusal> {
    if !service.http_reload {
        return Err(Refusal::UnknownPath);
    }
    if !Methods::Post.contain(method) {
        return Err(Refusal::Method(Methods::Post));
    }
    let mut shutdown = service.shutdown.clone();
    let outcome = tokio::select! {
        biased;
        _ = ShutdownPhase::Serving.next(&mut shutdown) => ReloadOutcome::ShuttingDown,
        outcome = service.reload.reload() => outcome,
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

/// Counts and logs a request that was refused before it became a scrape. `asked_for` is the
/// exporter that the request named, if that exporter is unknown.
fn refused(
    service: &Service,
    peer: &Peer,
    refusal: Refusal,
    asked_for: Option<&ExporterName>,
) -> Refusal {
    match asked_for {
        Some(_) => service.metrics.unknown_exporter(),
        None => service.metrics.rejected(refusal.info().label),
    }
    tracing::info!(
        target: ANY_PEER,
        exporter = asked_for.map(|name| name.as_str().escape_debug().to_string()),
        reason = refusal.info().label,
        cause = refusal.source().map(|cause| Chain(cause).to_string()),
        hint = refusal.hint(),
        status = refusal.info().status.as_u16(),
        client = peer.client(),
        peer = %peer.address,
        "request refused"
    );
    refusal
}

fn is_draining(service: &Service) -> bool {
    *service.shutdown.borrow() != ShutdownPhase::Serving
}

/// `/autotls`: returns the signing request, or accepts the certificate.
async fn enrol(
    service: &Service,
    peer: &Peer,
    activity: &Arc<Activity>,
    head: &Parts,
    domain: Option<String>,
    body: Incoming,
    arrival: Instant,
) -> Result<Response<ResponseBody>, Refusal> {
    let endpoint = service.enrolment.as_ref().ok_or(Refusal::UnknownPath)?;
    if !Methods::GetHeadAndPost.contain(&head.method) {
        return Err(Refusal::Method(Methods::GetHeadAndPost));
    }
    endpoint.admit(peer)?;
    if head.method == Method::POST {
        endpoint.take(peer, activity, body, arrival).await?;
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

fn metrics(service: &Service, headers: &HeaderMap, now: Instant) -> Response<ResponseBody> {
    let format = Format::accepted(headers);
    let reload = service.reload.state();
    let exporters = service.exporters.as_ref();
    let written = service.metrics.render(exporters, reload, format, now.into_std());
    respond::metrics(format.content_type(), written)
}

fn status(
    service: &Service,
    exporters: Option<&Exporters>,
    arrival: Instant,
) -> Response<ResponseBody> {
    let now = page::Now { instant: arrival.into_std(), time: SystemTime::now() };
    let exporters = exporters.into_iter().flat_map(Exporters::iter).map(AsRef::as_ref);
    respond::page(page::status(exporters, &service.metrics.expiries(), service.reload.state(), now))
}

struct ScrapeRequest<'a> {
    connector: &'a Connector,
    exporter: &'a Arc<ActiveExporter>,
    head: &'a Parts,
    forwarded: &'a str,
    arrival: Instant,
    deadline: Deadline,
}

async fn scrape(
    service: &Service,
    peer: &Arc<Peer>,
    activity: &Arc<Activity>,
    request: &ScrapeRequest<'_>,
) -> Result<Answer, Refusal> {
    let ScrapeRequest { exporter, arrival, deadline, .. } = *request;
    let asks_late = asks_late(arrival, Instant::now(), deadline);
    let permit = exporter.try_acquire();
    let no_permit = permit.is_none();
    let mut scrape = Scrape::begin(
        Arc::clone(exporter),
        Arc::clone(peer),
        permit,
        arrival.into_std(),
        Arc::downgrade(activity) as Weak<dyn AbortCause>,
    );
    if asks_late {
        scrape.asks_late();
    }
    let first_bytes = if is_draining(service) {
        Err(Refusal::Draining)
    } else if no_permit {
        Err(Refusal::TooManyScrapes)
    } else {
        let first_bytes = first_bytes(request, activity, &mut scrape).await;
        first_bytes.map_err(|error| charged(error, asks_late, deadline))
    };
    match first_bytes {
        Ok((head, mut body)) => {
            scrape.first_byte(head.status, &head.headers);
            if head.length_ignored {
                scrape.length_ignored();
            }
            body.account_to(scrape);
            let response = relay::response_head(&head, ResponseBody::relay(body));
            Ok(Answer::Relayed(response, deadline))
        }
        Err(refusal) => {
            scrape.refuse(&refusal);
            Err(refusal)
        }
    }
}

/// Connects, sends the request, and waits for the head and the first bytes of the body. An error up
/// to here is answered with a clean 502 or 504.
async fn first_bytes(
    request: &ScrapeRequest<'_>,
    activity: &Arc<Activity>,
    scrape: &mut Scrape,
) -> Result<(UpstreamHead, RelayBody), UpstreamError> {
    let &ScrapeRequest { connector, exporter, head, forwarded, deadline, .. } = request;
    let exporter = &exporter.config;
    scrape.connecting();
    let stream = connector.connect(exporter, deadline).await?;
    scrape.connected();
    let (head, body) = upstream::exchange(stream, exporter, head, forwarded, deadline).await?;
    let mut body = RelayBody::new(&head, body, exporter, Arc::clone(activity));
    match timeout_at(deadline.instant(), body.prime()).await {
        Ok(Ok(())) => Ok((head, body)),
        Ok(Err(abort)) => Err(UpstreamError::before_first_byte(abort)),
        Err(_) => Err(UpstreamError::FirstByteTimeout),
    }
}
