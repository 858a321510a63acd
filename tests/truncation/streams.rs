//! Both connections of the proxy in memory, as a death describes them.

use std::time::Duration;

use bytes::Bytes;
use scrapegate_harness::{
    PATIENCE,
    in_memory::scripted::{self, Ending, Script, Stream},
    testbed::Then,
};

use crate::deaths::{Death, Moment, Reader};

/// Size of one read from an exporter that sends several packets: the payload of an Ethernet packet.
const PIECE: usize = 1460;

/// Long enough, in virtual time, for the proxy to pass on the bytes that it has.
const A_MOMENT: Duration = Duration::from_millis(1);

/// An exporter that reads the request, answers, and dies.
pub(crate) fn exporter(death: &Death<'_>) -> Stream {
    let mut bytes = death.answer.bytes.slice(..death.cut);
    let mut script = Script::empty(match death.then {
        Then::Fin => Ending::Fin,
        Then::Rst => Ending::Reset,
        Then::Stall => Ending::Open,
    });
    match death.moment {
        Moment::AtOnce => script.send(bytes),
        Moment::Later => {
            while !bytes.is_empty() {
                script.send(bytes.split_to(PIECE.min(bytes.len())));
            }
            script.ends = A_MOMENT;
        }
        Moment::JustInTime => last_byte_at(PATIENCE - Duration::from_secs(1), bytes, &mut script),
        Moment::TooLate => last_byte_at(PATIENCE + Duration::from_secs(1), bytes, &mut script),
    }
    let stream = Stream::new(script, scripted::Reader::Fast).after_request();
    if death.moment == Moment::Later { stream.breathing() } else { stream }
}

fn last_byte_at(time: Duration, mut bytes: Bytes, script: &mut Script) {
    let last = bytes.split_off(bytes.len().saturating_sub(1));
    script.send(bytes);
    if !last.is_empty() {
        script.ends = time;
        script.send(last);
    }
}

/// A scraper that sends one request and keeps its connection.
pub(crate) fn scraper(request: &[u8], death: &Death<'_>) -> Stream {
    let reader = match death.reader {
        Reader::Fast => scripted::Reader::Fast,
        Reader::Slow => {
            scripted::Reader::Slow { amount: death.answer.bytes.len() / 16 + 20, pause: A_MOMENT }
        }
        Reader::Asleep => scripted::Reader::Slow { amount: 1000, pause: PATIENCE * 2 },
    };
    Stream::new(Script::at_once(request, Ending::Open), reader)
}
