//! The demo's scrape over mutual TLS. It counts the samples and discards the body.

use std::io::BufRead as _;

use crate::cli::client::{ClientRequest, Encryption, Error, Figures};

/// The figures of a complete scrape.
#[derive(Debug)]
pub(super) struct Scraped {
    pub(super) figures: Figures,
    /// Number of lines that are not empty and not a comment.
    pub(super) samples: u64,
    /// `None` for plain HTTP.
    pub(super) encryption: Option<Encryption>,
}

/// Scrapes once, on a new connection.
///
/// # Errors
/// If the status is not 200 or the body is not complete.
pub(super) async fn scrape(request: &ClientRequest) -> Result<Scraped, Error> {
    let mut answer = request.send().await?;
    let mut lines = LineCounter::default();
    while let Some(data) = answer.next().await? {
        lines.count(&data);
    }
    let encryption = answer.encryption.clone();
    Ok(Scraped { figures: answer.figures(), samples: lines.samples, encryption })
}

/// Counts samples in a text that arrives in pieces.
#[derive(Debug, Default)]
struct LineCounter {
    samples: u64,
    /// Whether the last piece ended inside a line.
    inside: bool,
}

impl LineCounter {
    fn count(&mut self, mut piece: &[u8]) {
        while let Some(&first) = piece.first() {
            if !self.inside && !matches!(first, b'#' | b'\n') {
                self.samples += 1;
            }
            let (line, rest) = piece.split_at(line_length(piece));
            self.inside = !line.ends_with(b"\n");
            piece = rest;
        }
    }
}

/// Length of the first line with its newline, or of the whole text.
fn line_length(mut text: &[u8]) -> usize {
    // `skip_until` uses the standard library's fast `memchr`. Reading from memory cannot fail.
    let all = text.len();
    text.skip_until(b'\n').unwrap_or(all)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::copy_bidirectional,
        net::{TcpListener, TcpStream},
        task::JoinSet,
    };

    use super::*;
    use crate::cli::{
        client::tests::{request, tls},
        demo::exporter::SyntheticExporter,
    };

    /// Scrapes a synthetic exporter through a TLS tunnel.
    async fn scrape_exporter(series: u64, path: &str) -> Result<Scraped, Error> {
        let exporter = SyntheticExporter::bind(series).await.expect("bound");
        let address = exporter.address();
        let mut background = JoinSet::new();
        background.spawn(exporter.serve());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let (server, client) = tls();
        let tunnel = async {
            let (near, _) = listener.accept().await.expect("accepted");
            let mut near = server.accept(near).await.expect("a handshake");
            let mut far = TcpStream::connect(address).await.expect("connected");
            let _ = copy_bidirectional(&mut near, &mut far).await;
        };
        let request = request(listener.local_addr().expect("bound"), client, path);
        // The tunnel ends only with the connection, which stays open after a complete answer.
        tokio::select! {
            scraped = scrape(&request) => scraped,
            () = async { tunnel.await; std::future::pending().await } => unreachable!(),
        }
    }

    #[tokio::test]
    async fn a_complete_scrape_has_its_figures() {
        for series in [0, 1000] {
            let scraped = scrape_exporter(series, "/metrics").await.expect("complete");
            let Scraped { figures, samples, encryption } = scraped;
            assert_eq!(samples, series);
            assert!(figures.bytes > series * 30, "{figures:?}");
            assert!(figures.first_byte <= figures.total, "{figures:?}");
            let encryption = encryption.expect("TLS");
            assert_eq!(encryption.version, "TLS 1.3");
            assert!(encryption.cipher_suite.starts_with("TLS_AES_"), "{encryption:?}");
        }
    }

    #[tokio::test]
    async fn another_status_is_an_error() {
        let refused = scrape_exporter(1, "/else").await.expect_err("not found");
        assert_eq!(refused.to_string(), "the exporter answered 404 Not Found");
    }

    const TEXT: &[u8] =
        b"# HELP a A.\n# TYPE a counter\na{b=\"#\"} 1\n\na 2\n#\nlong 3 4\n\nlast 5";

    fn count<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
        let mut lines = LineCounter::default();
        for piece in pieces {
            lines.count(piece);
        }
        lines.samples
    }

    #[test]
    fn comments_and_empty_lines_are_not_samples() {
        assert_eq!(count([TEXT]), 4);
        assert_eq!(count([b"".as_slice()]), 0);
        assert_eq!(count([b"\n\n# only this".as_slice()]), 0);
        assert_eq!(count([b"a 1\n".as_slice()]), 1);
    }

    #[test]
    fn the_count_does_not_depend_on_how_the_text_is_split() {
        for first in 0..=TEXT.len() {
            for second in first..=TEXT.len() {
                let pieces = [&TEXT[..first], &TEXT[first..second], &TEXT[second..]];
                assert_eq!(count(pieces), 4, "cut at {first} and {second}");
            }
        }
        assert_eq!(count(TEXT.chunks(1)), 4);
    }
}
