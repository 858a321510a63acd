//! One connection, over loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    downstream::{
        accept::accept_loop,
        handshake::HandshakeLimiter,
        serving::{
            ListenerMode,
            fixture::{serving, tls, with_status_page},
        },
    },
    http::metrics::Metrics,
    tls::{Servers, client_tls},
};

/// An accepted socket and its client.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, client)
}

/// Asserts that the end of the stream is seen when `client` closes it, and not before.
async fn assert_end_is_seen(stream: impl Scraper, client: impl Sized) {
    assert!(!stream.peer_has_ended(), "the client is there");
    drop(client);
    let seen = async {
        while !stream.peer_has_ended() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), seen).await.expect("the end is seen");
}

#[tokio::test]
async fn f26_the_end_of_a_connection_is_seen_over_plain_http_and_over_tls() {
    let (stream, client) = connected().await;
    assert_end_is_seen(Transport::new(stream), client).await;

    let (stream, client) = connected().await;
    let server = tls(None).config;
    let limiter = HandshakeLimiter::new(NonZeroUsize::MIN);
    let limiter = (&limiter, Host::of([127, 0, 0, 1].into()));
    let shaking = handshake(Transport::new(stream), &server, Duration::from_secs(60), limiter);
    let connector = TlsConnector::from(Arc::new(client_tls(Servers::Any, None).unwrap()));
    let connecting = connector.connect("localhost".try_into().unwrap(), client);
    let (shaken, client) = tokio::join!(shaking, connecting);
    assert_end_is_seen(shaken.unwrap().0, client.unwrap()).await;
}

/// A connection that was accepted, and its client.
async fn begun(context: &Arc<SessionContext>) -> (Session, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let many = NonZeroU32::MAX;
    let admission = Admission::new(many, many, many);
    let (metrics, shutdown) = (Metrics::default(), watch::Sender::new(ShutdownPhase::Serving));
    let (sender, mut sessions) = mpsc::unbounded_channel();
    let start = |stream, address, ticket| {
        let begun = Session::begin(Arc::clone(context), &admission, stream, address, ticket);
        sender.send(begun).unwrap();
    };
    let phase = shutdown.subscribe();
    tokio::select! {
        () = accept_loop(&listener, &admission, &metrics, phase, || {}, start) => {}
        session = sessions.recv() => return (session.unwrap(), client),
    }
    panic!("the shutdown has not begun");
}

/// A task has the size of its largest step for as long as the connection is open.
#[tokio::test]
async fn a_connection_that_is_served_costs_a_task_of_less_than_4_kib() {
    let limiter = HandshakeLimiter::new(NonZeroUsize::MIN);
    let context = Arc::new(SessionContext::new(serving(ListenerMode::PlainHttp), limiter));
    let (session, _client) = begun(&context).await;
    let task = size_of_val(&session.serve());
    assert!(task < 4096, "{task} bytes");
}

/// The status of the next answer to `GET /`.
async fn status(client: &mut TcpStream) -> String {
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
    client.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
    head.split(' ').nth(1).unwrap().to_owned()
}

/// The reload has not closed the connection yet.
#[tokio::test]
async fn after_a_reload_to_tls_a_request_over_plain_http_is_answered_as_before() {
    for (mode, expected) in [
        // Answered by the new state, which has a status page.
        (ListenerMode::PlainHttp, "200"),
        (ListenerMode::Tls(tls(None)), "404"),
    ] {
        let limiter = HandshakeLimiter::new(NonZeroUsize::MIN);
        let context = Arc::new(SessionContext::new(serving(ListenerMode::PlainHttp), limiter));
        let (session, mut client) = begun(&context).await;
        let asking = async {
            assert_eq!(status(&mut client).await, "404", "before the reload");
            let shown = format!("{mode:?}");
            context.replace_state(Arc::new(with_status_page(mode)));
            assert_eq!(status(&mut client).await, expected, "{shown}");
            drop(client);
        };
        let both = async { tokio::join!(session.serve(), asking) };
        timeout(Duration::from_secs(60), both).await.expect("the connection ends");
    }
}
