//! The body of an exporter's response, in pieces as they arrive.

use std::{
    future::Future,
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::{
    chunked::{Broken, Chunked},
    connect::Stream,
    fault,
    framing::Framing,
    read_coalescing::{READ_SIZE, ReadCoalescing},
};
use crate::common::{detach::detach_small, error::Abort};

/// A rest of a buffer smaller than this, in bytes, is not used for reading. Many small reads would
/// cost more than a new buffer.
const SMALLEST_READ: usize = 16 * 1024;

/// A body, and the connection on which it arrives. Dropping it closes the connection. Each scrape
/// has its own connection, so that leftover bytes of one response cannot reach the next.
#[derive(Debug)]
pub struct UpstreamBody {
    stream: Stream,
    decoder: Decoder,
    /// Bytes that were read and are not decoded yet.
    unread: Bytes,
    /// Space for the next read.
    room: BytesMut,
    /// Size of the next read buffers in bytes.
    read_size: usize,
    coalescing: ReadCoalescing,
}

#[derive(Debug)]
enum Decoder {
    Chunked(Chunked),
    /// Number of bytes that are still expected.
    Length(u64),
    UntilClose,
    Ended,
    /// The message was cut short or is malformed. This state is final.
    Failed(Abort),
}

impl UpstreamBody {
    /// A body whose first bytes, `unread`, arrived together with the head.
    pub(super) fn new(stream: Stream, framing: Framing, unread: Bytes) -> Self {
        let decoder = match framing {
            Framing::Bodiless => Decoder::Ended,
            Framing::Chunked => Decoder::Chunked(Chunked::new()),
            Framing::Length(length) => Decoder::Length(length),
            Framing::UntilClose => Decoder::UntilClose,
        };
        Self {
            stream,
            decoder,
            unread,
            room: BytesMut::new(),
            read_size: READ_SIZE,
            coalescing: ReadCoalescing::default(),
        }
    }

    /// The next bytes of the body, never empty. `None` after a complete message.
    ///
    /// # Errors
    ///
    /// The message was cut short or is malformed. All later calls return the same error.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        loop {
            if let Decoder::Failed(abort) = self.decoder {
                return Poll::Ready(Some(Err(abort)));
            }
            match self.decode() {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(None) if self.is_end() => return Poll::Ready(None),
                Ok(None) => {}
                Err(Broken) => {
                    self.decoder = Decoder::Failed(Abort::ExporterGarbage);
                    continue;
                }
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) if matches!(self.decoder, Decoder::UntilClose) => {
                    self.decoder = Decoder::Ended;
                }
                Ok(0) => self.decoder = Decoder::Failed(Abort::ExporterCutShort),
                Ok(_) => {}
                Err(error) => self.decoder = Decoder::Failed(fault::in_body(&error)),
            }
        }
    }

    /// Whether the message is complete: all announced bytes were returned or, in a chunked body,
    /// the last chunk was read.
    #[must_use]
    pub fn is_end(&self) -> bool {
        match &self.decoder {
            Decoder::Chunked(chunked) => chunked.is_done(),
            Decoder::Length(left) => *left == 0,
            Decoder::UntilClose | Decoder::Failed(_) => false,
            Decoder::Ended => true,
        }
    }

    /// Frees the memory that is reserved for the next read, and a buffer with few unread bytes.
    pub fn release(&mut self) {
        self.room = BytesMut::new();
        detach_small(&mut self.unread);
    }

    /// Reads about `size` bytes at once from now on.
    #[inline(always)]
    pub fn read_up_to(&mut self, size: usize) {
        self.read_size = size;
    }

    fn decode(&mut self) -> Result<Option<Bytes>, Broken> {
        let data = match &mut self.decoder {
            Decoder::Chunked(chunked) => return chunked.next(&mut self.unread),
            Decoder::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(self.unread.len());
                // Lossless: a length in memory.
                *left -= count as u64;
                self.unread.split_to(count)
            }
            Decoder::UntilClose => std::mem::take(&mut self.unread),
            Decoder::Ended | Decoder::Failed(_) => return Ok(None),
        };
        Ok((!data.is_empty()).then_some(data))
    }

    /// Uses the last buffer again if nothing else does, else allocates a new one. `reserve` would do
    /// the same, but may double the size.
    fn make_room(&mut self, size: usize) {
        if !self.room.try_reclaim(size) {
            self.room = BytesMut::with_capacity(size);
        }
    }

    /// Reads once. Only called when all bytes that were read before are decoded.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Releases the buffer. It can be reused for reading if no other part of it is in use.
        self.unread = Bytes::new();
        let size = self.read_size.max(1).next_multiple_of(SMALLEST_READ);
        if self.room.capacity() < SMALLEST_READ {
            self.make_room(size);
        }
        let mut room = (&mut self.room).limit(size);
        let Poll::Ready(outcome) = pin!(self.stream.read_buf(&mut room)).poll(cx) else {
            if let Some(socket) = self.stream.tcp() {
                self.coalescing.empty(socket, cx);
            }
            return Poll::Pending;
        };
        let count = outcome?;
        self.coalescing.received(count);
        self.unread = self.room.split().freeze();
        Poll::Ready(Ok(count))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    const SENT: usize = 1 << 20;

    /// A body that is larger than all reads of a test, and the other end of its connection.
    async fn body() -> (UpstreamBody, tokio::io::DuplexStream) {
        let (mut exporter, stream) = duplex(SENT);
        exporter.write_all(&vec![b'x'; SENT]).await.expect("there is room");
        let framing = Framing::Length(SENT as u64);
        (UpstreamBody::new(Stream::other(stream), framing, Bytes::new()), exporter)
    }

    async fn next(body: &mut UpstreamBody) -> Bytes {
        poll_fn(|cx| body.poll_data(cx)).await.expect("more data").expect("no error")
    }

    #[tokio::test]
    async fn reads_have_the_size_that_the_relay_asks_for_rounded_up() {
        let (mut body, _exporter) = body().await;
        assert_eq!(next(&mut body).await.len(), READ_SIZE);
        for (size, read) in [(100_000, 7 * SMALLEST_READ), (1, SMALLEST_READ), (0, SMALLEST_READ)] {
            body.read_up_to(size);
            assert_eq!(next(&mut body).await.len(), read, "{size}");
        }
    }

    #[tokio::test]
    async fn a_buffer_is_used_again_if_nothing_else_uses_it() {
        let (mut body, _exporter) = body().await;
        let first = next(&mut body).await;
        let second = next(&mut body).await;
        assert_ne!(first.as_ptr(), second.as_ptr(), "the first buffer is in use");
        let address = second.as_ptr();
        drop(second);
        assert_eq!(next(&mut body).await.as_ptr(), address);
    }

    #[tokio::test]
    async fn a_released_body_holds_no_buffer() {
        let (mut exporter, stream) = duplex(SENT);
        exporter.write_all(b"a 1\n").await.expect("there is room");
        let mut body = UpstreamBody::new(Stream::other(stream), Framing::UntilClose, Bytes::new());
        next(&mut body).await;
        assert!(body.room.capacity() > 0, "the rest of the buffer");
        body.release();
        assert_eq!(body.room.capacity(), 0);
    }

    #[tokio::test]
    async fn a_released_body_holds_no_buffer_for_a_few_unread_bytes() {
        let (_exporter, stream) = duplex(SENT);
        let buffer = Bytes::from("4\r\na 1\n\r\n4\r\nb 2\n\r\n0\r\n\r\n".to_owned());
        let mut body = UpstreamBody::new(Stream::other(stream), Framing::Chunked, buffer.clone());
        body.release();
        assert!(buffer.is_unique());
        assert_eq!(next(&mut body).await, "a 1\nb 2\n");
        assert!(poll_fn(|cx| body.poll_data(cx)).await.is_none(), "complete");
    }
}
