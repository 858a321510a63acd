//! Requests that are sent before the response to the previous one.

use scrapegate_harness::{client::Cut, exporter::Gate};

use crate::{Setup, is_kept, scrape_with};

/// H27.
#[test]
fn a_hundred_pipelined_scrapes_are_answered_in_order_one_at_a_time() {
    let setup = Setup::with("", "max-concurrent = 1\n");
    let mut client = setup.connect();
    let requests: String = (0..100)
        .map(|it| format!("GET /prometheus?exporter=e&n={it} HTTP/1.1\r\nHost: h\r\n\r\n"))
        .collect();
    client.send(requests).expect("sent");
    for number in 0..100 {
        let response = client.read_response().expect("a response");
        // Two scrapes at a time would be refused with 503.
        assert_eq!(response.head.status, 200, "{number}: {response:?}");
        assert_eq!(response.body.text(), format!("# /metrics?n={number}\n"));
        assert!(response.body.is_complete());
    }
    assert!(is_kept(&mut client));
    assert_eq!(setup.exporter.requests().len(), 100);
}

/// H27: memory does not grow with the number of waiting requests.
#[test]
fn a_pipeline_longer_than_all_buffers_is_answered_in_order_and_in_bounded_memory() {
    const MANY: usize = 5000;
    let setup = Setup::with("", "max-concurrent = 1\n");
    let mut clients = [setup.connect(), setup.connect()];
    assert!(clients.iter_mut().all(is_kept));
    let before = setup.proxy.peak_rss_kib();
    for mut client in clients {
        let requests: String = (0..MANY)
            .map(|it| format!("GET /prometheus?exporter=other&n={it} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .collect();
        let requests = requests.replace("other&n=4999 ", "e&n=4999 ");
        // More requests than the proxy reads ahead, and fewer than the kernel buffers for it.
        client.send(requests).expect("sent");
        for number in 0..MANY - 1 {
            let response = client.read_response().expect("a response");
            assert_eq!(response.head.status, 404, "{number}: {response:?}");
            setup.refused(1);
        }
        let last = client.read_response().expect("a response");
        assert_eq!(last.body.text(), format!("# /metrics?n={}\n", MANY - 1));
    }
    let grown = setup.proxy.peak_rss_kib() - before;
    assert!(grown < 8 * 1024, "the peak memory grew by {grown} KiB");
}

/// H28.
#[test]
fn garbage_after_a_request_does_not_disturb_its_answer() {
    let setup = Setup::new();
    for garbage in ["garbage\r\n\r\n", "\0\0\0\0", "GET", "\r\nGET x y\r\n\r\n", "0\r\n\r\n"] {
        let mut client = setup.connect();
        client.send(format!("{}{garbage}", scrape_with(""))).expect("sent");
        let response = client.read_response().expect("the answer to the first");
        assert_eq!((response.head.status, response.body.text()), (200, "# /metrics\n".to_owned()));
        assert!(response.body.is_complete());
        if garbage == "GET" {
            // No line feed yet, so this is not invalid yet.
            client.send(" x y\r\n\r\n").expect("sent");
        }
        let response = client.read_response().expect("the answer to the second");
        assert_eq!(response.head.status, 400, "{garbage:?}: {response:?}");
        setup.refused(1);
        assert_eq!(client.read_to_end(), (Vec::new(), Cut::CloseNotify));
    }
    assert_eq!(setup.exporter.requests().len(), 5);
}

/// H28.
#[test]
fn no_request_is_answered_after_one_that_closes_the_connection() {
    let setup = Setup::new();
    for (first, status) in [
        (scrape_with("Connection: close\r\n"), 200),
        (scrape_with("Content-Length: 5\r\n"), 400),
        ("POST /prometheus HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405),
        ("GET /prometheus HTTP/1.1\r\n\r\n".to_owned(), 400),
    ] {
        let before = setup.exporter.requests().len();
        let mut client = setup.connect();
        client.send(format!("{first}{}", scrape_with(""))).expect("sent");
        let response = client.read_response().expect("a response");
        assert_eq!(response.head.status, status);
        assert_eq!(client.read_to_end(), (Vec::new(), Cut::CloseNotify), "{first:?}");
        let upstream = setup.exporter.requests().len() - before;
        assert_eq!(upstream, usize::from(status == 200), "{first:?}");
        setup.refused(u32::from(status != 200));
    }
}

/// H27.
#[test]
fn a_request_pipelined_after_a_running_scrape_waits_for_it() {
    let pki = scrapegate_harness::pki::Pki::new();
    let gate = Gate::default();
    let stalls = gate.clone();
    let exporter = scrapegate_harness::exporter::Exporter::start(move |conversation| {
        conversation.read_request()?;
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1\n")?;
        stalls.wait();
        conversation.send("2\n")
    });
    let proxy =
        scrapegate_harness::proxy::Proxy::start(&pki.config_ini(""), &exporter.section("e"));
    let config = pki.client(scrapegate_harness::pki::BOTH_VERSIONS);
    let mut client =
        scrapegate_harness::client::Client::connect(proxy.address(), config).expect("a handshake");
    client.send(scrape_with("").repeat(2)).expect("sent");
    let head = client.read_head().expect("the first head");
    assert_eq!(exporter.requests().len(), 1);
    gate.open();
    assert!(client.read_body(&head).is_complete());
    let second = client.read_response().expect("the second");
    assert!(second.body.is_complete());
    assert_eq!(exporter.requests().len(), 2);
}
