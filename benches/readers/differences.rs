//! Responses, most of them malformed, that the readers may judge differently.

use std::sync::Arc;

use bytes::Bytes;
use scrapegate::{
    common::error::{Abort, Refusal, UpstreamError},
    scrape::source::Source,
    upstream,
};
use scrapegate_harness::{
    in_memory::{
        counted::{Exporter, Pace, Stream},
        rig::runtime,
    },
    message::Message,
};

use crate::{
    drain::drain,
    reader::{self, Parser, Refused},
};

/// What a reader makes of a response that is followed by the end of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Judgment {
    /// A complete body of this number of bytes.
    Whole(u64),
    /// No head, or a head that is refused.
    Refused(String),
    /// A body that is not complete.
    Aborted(String),
}

impl Judgment {
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole(one), Self::Whole(two)) => one == two,
            (Self::Refused(_), Self::Refused(_)) | (Self::Aborted(_), Self::Aborted(_)) => true,
            _ => false,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Whole(bytes) => format!("whole, {bytes} bytes"),
            Self::Refused(cause) => format!("refused: {cause}"),
            Self::Aborted(cause) => format!("aborted: {cause}"),
        }
    }
}

/// The table of all responses that are not judged alike, and the number of the others.
pub(crate) fn table() -> String {
    let mut text = String::from(
        "| response | own | hyper | hyper with all lenient options |\n|---|---|---|---|\n",
    );
    let mut alike = 0;
    for (name, response) in cases() {
        let own = own(&response);
        let hyper = [Parser::Default, Parser::Lenient].map(|parser| hyper(&response, parser));
        if hyper.iter().all(|it| it.is_like(&own)) {
            alike += 1;
            continue;
        }
        let [default, lenient] = hyper.map(|it| it.text());
        text += &format!("| {name} | {} | {default} | {lenient} |\n", own.text());
    }
    text + &format!("\n{alike} other responses are judged alike.\n\n{}", cut())
}

/// A connection on which the response follows the request. hyper refuses an earlier response.
fn answering(response: &[u8]) -> Stream<Exporter> {
    let message = Message {
        head: Bytes::copy_from_slice(response),
        block: Bytes::new(),
        repeats: 0,
        tail: Bytes::new(),
        length: 0,
    };
    Stream::new(Exporter::new(message, Pace::AtOnce), Arc::default())
}

fn own(response: &[u8]) -> Judgment {
    runtime().block_on(async {
        match reader::own(upstream::Stream::other(answering(response))).await {
            Err(error) => Judgment::Refused(label(error)),
            Ok(mut body) => judge(&mut body, |_, abort| abort.info().label.to_owned()).await,
        }
    })
}

fn hyper(response: &[u8], parser: Parser) -> Judgment {
    runtime().block_on(async {
        match reader::hyper(answering(response), 64 * 1024, parser).await {
            Err(error) => Judgment::Refused(causes(&*error)),
            Ok(mut body) => {
                let failure = |body: &reader::HyperBody<_>, _| {
                    body.failure.as_ref().map_or_else(String::new, |error| causes(error))
                };
                judge(&mut body, failure).await
            }
        }
    })
}

async fn judge<S: Source>(body: &mut S, failure: impl Fn(&S, Abort) -> String) -> Judgment {
    let drained = drain(body).await;
    match drained.end {
        Ok(()) => Judgment::Whole(drained.bytes),
        Err(abort) => Judgment::Aborted(failure(body, abort)),
    }
}

fn label(error: Refused) -> String {
    match error.downcast::<UpstreamError>() {
        Ok(error) => Refusal::from(*error).info().label.to_owned(),
        Err(error) => causes(&*error),
    }
}

/// The last cause, which says the most.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Cuts a response of each framing after each byte, and counts those that look whole. A body without
/// a length has no end of its own, and is left out.
fn cut() -> String {
    let responses = [
        head("Content-Length: 12\r\n") + "a 1\nb 2\nc 3\n",
        head("Transfer-Encoding: chunked\r\n")
            + "4\r\na 1\n\r\n8;x=y\r\nb 2\nc 3\n\r\n0\r\nX: y\r\n\r\n",
    ];
    let (mut cuts, mut seem_whole) = (0, [0; 2]);
    for response in responses {
        for length in 0..response.len() {
            let start = &response.as_bytes()[..length];
            cuts += 1;
            for (count, judgment) in
                seem_whole.iter_mut().zip([own(start), hyper(start, Parser::Default)])
            {
                *count += usize::from(matches!(judgment, Judgment::Whole(_)));
            }
        }
    }
    let [own, hyper] = seem_whole;
    format!(
        "Of {cuts} truncated responses, {own} look whole to our own reader, {hyper} to hyper.\n"
    )
}

fn head(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n")
}

/// The responses with their names.
fn cases() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let mut add = |name: &str, response: String| cases.push((name.to_owned(), response.into()));
    let length = "Content-Length: 4\r\n";
    let chunked = head("Transfer-Encoding: chunked\r\n");
    for (name, start) in [
        ("no reason phrase", "HTTP/1.1 200\r\n"),
        ("LF as the end of lines", "HTTP/1.1 200 OK\n"),
        ("two spaces before the status", "HTTP/1.1  200 OK\r\n"),
        ("a tab after the status", "HTTP/1.1 200\tOK\r\n"),
        ("a reason phrase in Latin-1", "HTTP/1.1 200 \u{e9}t\u{e9}\r\n"),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\n"),
        ("HTTP/2", "HTTP/2 200 OK\r\n"),
        ("status 099", "HTTP/1.1 099 OK\r\n"),
        ("an empty line before the head", "\r\nHTTP/1.1 200 OK\r\n"),
        ("100 before the head", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
        ("103 before the head", "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n"),
    ] {
        add(name, format!("{start}{length}\r\na 1\n"));
    }
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(2000);
    add("2000 times 100 before the head", interim + &head(length) + "a 1\n");
    for (name, field) in [
        ("blank before the colon", "X : y\r\n"),
        ("blank in a field name", "X y: z\r\n"),
        ("folded line", "X: y\r\n z\r\n"),
        ("folded line, Content-Length in it", "X: y\r\n Content-Length: 2\r\n"),
        ("fold before the first field", " X: y\r\n"),
        ("field without a colon", "no colon\r\n"),
        ("field without a name", ": y\r\n"),
        ("control character in a field name", "X\u{1}: y\r\n"),
        ("NUL in a value", "X: a\0b\r\n"),
        ("CR in a value", "X: a\rb\r\n"),
    ] {
        add(name, head(&format!("{field}{length}")) + "a 1\n");
    }
    for (name, fields) in [
        ("Content-Length twice, equal", "Content-Length: 4\r\nContent-Length: 4\r\n"),
        ("Content-Length twice, different", "Content-Length: 4\r\nContent-Length: 2\r\n"),
        ("Content-Length `4, 4`", "Content-Length: 4, 4\r\n"),
        ("Content-Length `4, 2`", "Content-Length: 4, 2\r\n"),
        ("Content-Length `+4`", "Content-Length: +4\r\n"),
        ("Content-Length empty", "Content-Length:\r\n"),
        ("Content-Length over 64 bits", "Content-Length: 18446744073709551616\r\n"),
        ("Content-Length 2^64 - 1", "Content-Length: 18446744073709551615\r\n"),
        ("Content-Length, blank before the colon", "Content-Length : 4\r\n"),
        ("Content-Length, folded", "Content-Length:\r\n 4\r\n"),
        ("Content-Length, continued `1` and `0`", "Content-Length: 1\r\n 0\r\n"),
        (
            "Content-Length, then `Content -Length: 2`",
            "Content-Length: 4\r\nContent -Length: 2\r\n",
        ),
        ("`Content -Length: 2` alone", "Content -Length: 2\r\n"),
        ("no length, until the end", ""),
        ("too many bytes", "Content-Length: 2\r\n"),
        ("too few bytes", "Content-Length: 5\r\n"),
    ] {
        add(name, head(fields) + "a 1\n");
    }
    let chunks = "4\r\na 1\n\r\n0\r\n\r\n";
    for (name, fields) in [
        ("chunked and a length", "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n"),
        ("an invalid length and chunked", "Content-Length: z\r\nTransfer-Encoding: chunked\r\n"),
        (
            "two lengths and chunked",
            "Content-Length: 4\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        ),
        ("Transfer-Encoding `gzip, chunked`", "Transfer-Encoding: gzip, chunked\r\n"),
        ("Transfer-Encoding `identity`", "Transfer-Encoding: identity\r\n"),
        ("Transfer-Encoding, blank before the colon", "Transfer-Encoding : chunked\r\n"),
        ("Transfer-Encoding, folded", "Transfer-Encoding:\r\n chunked\r\n"),
        ("Transfer-Encoding with VT", "Transfer-Encoding: chunked\u{b}\r\n"),
        ("`Transfer -Encoding: chunked`", "Transfer -Encoding: chunked\r\n"),
    ] {
        add(name, head(fields) + chunks);
    }
    for (name, body) in [
        ("chunk size `zz`", "zz\r\na 1\n\r\n0\r\n\r\n"),
        ("chunk size `+4`", "+4\r\na 1\n\r\n0\r\n\r\n"),
        ("chunk size `0x4`", "0x4\r\na 1\n\r\n0\r\n\r\n"),
        ("blank before the chunk size", " 4\r\na 1\n\r\n0\r\n\r\n"),
        ("blanks after the chunk size", "4  \t\r\na 1\n\r\n0\r\n\r\n"),
        ("digit after the blank", "4 4\r\na 1\n\r\n0\r\n\r\n"),
        ("empty chunk size", "\r\na 1\n\r\n0\r\n\r\n"),
        ("extension without a size", ";x\r\na 1\n\r\n0\r\n\r\n"),
        ("LF after the chunk size", "4\na 1\n\r\n0\r\n\r\n"),
        ("LF after the data", "4\r\na 1\n\n0\r\n\r\n"),
        ("more data than the size", "4\r\na 1\nX\r\n0\r\n\r\n"),
        ("extension", "4;x=\"y\"\r\na 1\n\r\n0;z\r\n\r\n"),
        ("extension with LF", "4;x\na 1\n\r\n0\r\n\r\n"),
        ("extension with CR", "4;x\ry\r\na 1\n\r\n0\r\n\r\n"),
        ("chunk size over 64 bits", "10000000000000000\r\na 1\n\r\n0\r\n\r\n"),
        ("chunk size of 17 digits", "00000000000000004\r\na 1\n\r\n0\r\n\r\n"),
        ("trailer", "4\r\na 1\n\r\n0\r\nX: y\r\n\r\n"),
        ("trailer without a colon", "4\r\na 1\n\r\n0\r\nno colon\r\n\r\n"),
        ("trailer with a blank before the colon", "4\r\na 1\n\r\n0\r\nX : y\r\n\r\n"),
        ("trailer, folded", "4\r\na 1\n\r\n0\r\nX: y\r\n z\r\n\r\n"),
        ("trailer with NUL in its name", "4\r\na 1\n\r\n0\r\nX\0: y\r\n\r\n"),
        ("no empty last line", "4\r\na 1\n\r\n0\r\n"),
        ("bytes after the body", "4\r\na 1\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ] {
        add(name, format!("{chunked}{body}"));
    }
    let noise = |length: usize| "x".repeat(length);
    let chunk = |extension: &str| format!("4;{extension}\r\na 1\n\r\n");
    for (name, body) in [
        ("1000 blanks after the chunk size", format!("4{}\r\na 1\n\r\n", " ".repeat(1000))),
        ("one extension of 15 KiB", chunk(&noise(15 * 1024))),
        ("one extension of 17 KiB", chunk(&noise(17 * 1024))),
        ("3000 extensions of 13 bytes", chunk("thirteen=byte").repeat(3000)),
    ] {
        add(name, format!("{chunked}{body}0\r\n\r\n"));
    }
    for (name, trailers) in [
        ("trailers of 15 KiB", format!("X: {}\r\n", noise(15 * 1024))),
        ("trailers of 17 KiB", format!("X: {}\r\n", noise(17 * 1024))),
        ("100 trailers", "X: y\r\n".repeat(100)),
        ("101 trailers", "X: y\r\n".repeat(101)),
    ] {
        add(name, format!("{chunked}4\r\na 1\n\r\n0\r\n{trailers}\r\n"));
    }
    for (name, fields) in [
        ("head of 15 KiB", format!("X: {}\r\n", noise(15 * 1024))),
        ("head of 17 KiB", format!("X: {}\r\n", noise(17 * 1024))),
        ("100 fields", "X: y\r\n".repeat(99)),
        ("101 fields", "X: y\r\n".repeat(100)),
    ] {
        add(name, head(&format!("{fields}{length}")) + "a 1\n");
    }
    cases
}
