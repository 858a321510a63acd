//! An exporter whose process is killed in the middle of its response, without a chance to report an
//! error.

use std::collections::BTreeMap;

use scrapegate_harness::{
    client::{Client, Cut, End},
    exporter::{Exporter, Framing, Gate},
    metrics::Samples,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

use crate::PLAIN_HTTP;

/// The part of the body that is sent before the kill.
const FIRST: &str = "up 1\n";

/// An exporter in a process of its own: another proxy, which passes on the response of a script.
/// The script sends the first half of the body. The gate never opens, so the process is killed
/// before the second half.
struct Process {
    proxy: Proxy,
    _gate: Gate,
    _script: Exporter,
}

impl Process {
    fn start(framing: Framing) -> Self {
        let gate = Gate::default();
        let waits = gate.clone();
        let script = Exporter::start(move |conversation| {
            conversation.read_request()?;
            let header = framing.header(2 * FIRST.len() as u64);
            conversation.send(format!("HTTP/1.1 200 OK\r\n{header}\r\n"))?;
            match framing {
                Framing::Chunked(_) => {
                    conversation.send(format!("{:x}\r\n{FIRST}\r\n", FIRST.len()))?;
                }
                Framing::ContentLength | Framing::UntilClose => conversation.send(FIRST)?,
            }
            waits.wait();
            Ok(())
        });
        let proxy = Proxy::start(PLAIN_HTTP, &script.section("e"));
        Self { proxy, _gate: gate, _script: script }
    }

    fn section(&self) -> String {
        let address = self.proxy.address();
        format!(
            "[e]\nenabled = True\nmethod = http\nhost = {}\nport = {}\npath = /prometheus?exporter=e\n",
            address.ip(),
            address.port()
        )
    }
}

/// P07
#[test]
fn an_exporter_killed_during_its_body_causes_a_truncated_scrape_that_is_counted_and_logged() {
    let pki = Pki::new();
    for (version, framing) in
        BOTH_VERSIONS.iter().zip([Framing::Chunked(4096), Framing::ContentLength])
    {
        let mut process = Process::start(framing);
        let proxy = Proxy::start(&pki.config_ini(""), &process.section());
        let connect =
            || Client::connect(proxy.address(), pki.client(&[version])).expect("a handshake");
        let mut reader = connect();
        let before = Samples::of(&mut reader);
        let at_rest = proxy.open_fds();

        let mut client = connect();
        client.send_get("/prometheus?exporter=e").expect("sent");
        let head = client.read_head().expect("a head");
        assert_eq!(head.status, 200, "{head:?}");
        process.proxy.signal("KILL");
        assert_eq!(process.proxy.wait_exit().code(), None, "a signal has no exit code");
        let body = client.read_body(&head);
        assert!(
            matches!(body.end, End::Incomplete(Cut::Reset | Cut::NoCloseNotify)),
            "{framing:?}: {body:?}"
        );
        assert_eq!(body.text(), FIRST, "{framing:?}");

        let record = proxy.wait_for_scrape("e");
        assert_eq!(record["outcome"], "exporter_cut_short", "{record}");
        assert_eq!((&record["status"], &record["blame"]), (&200.into(), &"exporter".into()));
        assert_eq!(record["bytes"], FIRST.len(), "{record}");
        let after = Samples::of(&mut reader);
        let scrape = "scrapegate_scrapes_total{exporter=\"e\",outcome=\"exporter_cut_short\"}";
        let handshake = "scrapegate_tls_handshakes_total{result=\"ok\"}";
        let events = BTreeMap::from([(scrape, 1.0), (handshake, 1.0)]);
        assert_eq!(after.events_since(&before), events);
        let truncated = "scrapegate_truncated_total{";
        let cause = format!("{truncated}exporter=\"e\",cause=\"exporter_cut_short\"}}");
        assert_eq!((after.value(&cause), after.sum(truncated)), (1.0, 1.0));
        proxy.assert_at_rest(at_rest);

        let response = reader.get("/prometheus?exporter=e");
        let said = (response.head.status, response.head.reason.as_str());
        assert_eq!(said, (502, "exporter refused the connection"), "{response:?}");
        proxy.wait_for_log("the record of the refusal", |record| {
            record["fields"]["outcome"] == "exporter_refused"
        });
        let scrapes = proxy.log_lines().iter().filter(|line| line.contains("\"outcome\"")).count();
        assert_eq!(scrapes, 2, "one record each");
    }
}
