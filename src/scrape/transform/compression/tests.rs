#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{io::Read, num::NonZeroU32};

use super::*;
use crate::scrape::transform::Transform;

const CODINGS: [ContentCoding; 2] = [ContentCoding::Zstd, ContentCoding::Gzip];

/// Lines of the text format.
fn exposition(lines: usize) -> Vec<u8> {
    let line = |id: usize| {
        let value = id.wrapping_mul(2_654_435_761) % 1_000_003;
        format!("requests_total{{handler=\"/api/{}\",instance=\"i-{id:08x}\"}} {value}\n", id % 97)
    };
    (0..lines).map(line).collect::<String>().into_bytes()
}

/// Bytes that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = |_| {
        // Xorshift (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(next).collect()
}

/// What a decoder produces, and whether it saw the end of the stream.
fn decoded(coding: ContentCoding, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut plain = Vec::new();
    let read = match coding {
        ContentCoding::Zstd => {
            zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut plain)
        }
        ContentCoding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
    };
    // Both decoders take an empty input for an empty stream.
    (plain, read.is_ok() && !bytes.is_empty())
}

/// Compresses `body` in pieces of lengths `pieces` in turn, with a flush after each piece if
/// `flushes`. Returns the output of each call.
fn compressed(
    coding: ContentCoding,
    body: &[u8],
    pieces: &[usize],
    flushes: bool,
) -> Vec<Vec<Bytes>> {
    let mut compression = Compression::new(coding);
    let mut outputs = Vec::new();
    let mut call = |step: &mut dyn FnMut(&mut Out) -> Result<(), Abort>| {
        let mut out = Out::default();
        step(&mut out).unwrap();
        outputs.push(out.0.into_iter().collect());
    };
    let (mut left, mut lengths) = (body, pieces.iter().cycle());
    while !left.is_empty() {
        let (piece, rest) = left.split_at(left.len().min(*lengths.next().unwrap()));
        left = rest;
        call(&mut |out| compression.push(Bytes::copy_from_slice(piece), out));
        if flushes {
            call(&mut |out| compression.flush(out));
        }
    }
    call(&mut |out| compression.finish(out));
    outputs
}

fn joined(outputs: &[Vec<Bytes>]) -> Vec<u8> {
    outputs.iter().flatten().flatten().copied().collect()
}

#[test]
fn every_body_in_any_pieces_comes_out_as_it_went_in() {
    let bodies = [Vec::new(), vec![b'a'], exposition(3), exposition(20_000), noise(200_000)];
    for coding in CODINGS {
        for body in &bodies {
            for (pieces, flushes) in
                [(&[4096][..], false), (&[1 << 20], true), (&[1, 70_000, 3, 900], true)]
            {
                let outputs = compressed(coding, body, pieces, flushes);
                assert!(outputs.iter().flatten().all(|bytes| !bytes.is_empty()));
                let (plain, is_whole) = decoded(coding, &joined(&outputs));
                assert!(is_whole, "{coding:?}, {} bytes in {pieces:?}", body.len());
                assert!(plain == *body, "{coding:?}, {} bytes in {pieces:?}", body.len());
            }
        }
    }
}

#[test]
fn a_block_that_is_full_exactly_at_the_end_is_the_end() {
    for coding in CODINGS {
        // Noise does not shrink, so the lengths around a block's meet all cases.
        for length in (BLOCK - 40..BLOCK + 4).chain(2 * BLOCK - 60..2 * BLOCK + 4) {
            let body = noise(length);
            let outputs = compressed(coding, &body, &[1 << 20], false);
            assert_eq!(decoded(coding, &joined(&outputs)), (body, true), "{coding:?}, {length}");
        }
    }
}

#[test]
fn no_part_of_a_compressed_body_before_its_last_byte_is_a_whole_one() {
    let body = exposition(60);
    for coding in CODINGS {
        for flushes in [false, true] {
            let all = joined(&compressed(coding, &body, &[500], flushes));
            for end in 0..all.len() {
                let (plain, is_whole) = decoded(coding, &all[..end]);
                assert!(!is_whole, "{coding:?}: {end} of {} bytes decode cleanly", all.len());
                assert!(body.starts_with(&plain));
            }
            assert_eq!(decoded(coding, &all), (body.clone(), true));
        }
    }
}

#[test]
fn a_flush_passes_on_all_bytes_so_far_and_nothing_that_ends_the_stream() {
    let body = exposition(1000);
    for coding in CODINGS {
        let mut compression = Compression::new(coding);
        let (mut sent, mut out) = (Vec::new(), Out::default());
        for (number, line) in body.split_inclusive(|&byte| byte == b'\n').enumerate() {
            compression.push(Bytes::copy_from_slice(line), &mut out).unwrap();
            if number % 100 == 0 {
                compression.flush(&mut out).unwrap();
                // A second flush changes nothing that a decoder produces.
                compression.flush(&mut out).unwrap();
                sent.extend(out.0.drain(..).flatten());
                let (plain, is_whole) = decoded(coding, &sent);
                assert!(plain.ends_with(line) && body.starts_with(&plain), "{coding:?} {number}");
                assert!(!is_whole, "{coding:?} {number}");
            }
        }
    }
}

#[test]
fn only_full_blocks_leave_before_a_flush() {
    let body = exposition(100_000);
    for coding in CODINGS {
        let outputs = compressed(coding, &body, &[4096], false);
        let (last, before) = outputs.split_last().unwrap();
        assert!(before.iter().flatten().count() > 10, "{coding:?}");
        assert!(before.iter().flatten().all(|bytes| bytes.len() == BLOCK), "{coding:?}");
        assert!(last.iter().map(Bytes::len).sum::<usize>() > 0);
        let length = joined(&outputs).len();
        assert!(length < body.len() / 4, "{coding:?}: {length} of {} bytes", body.len());
    }
}

#[test]
fn a_flush_sends_nothing_if_no_byte_has_come_since_the_last_one() {
    for coding in CODINGS {
        let mut compression = Compression::new(coding);
        let mut sent = |push: Option<&'static [u8]>| {
            let mut out = Out::default();
            if let Some(data) = push {
                compression.push(Bytes::from_static(data), &mut out).unwrap();
            }
            compression.flush(&mut out).unwrap();
            out.into_iter().map(|bytes| bytes.len()).sum::<usize>()
        };
        assert_eq!(sent(None), 0, "{coding:?}");
        assert!(sent(Some(b"a 1\n")) > 0, "{coding:?}");
        assert_eq!(sent(None), 0, "{coding:?}");
    }
}

#[test]
fn a_permit_is_taken_with_the_plan_and_returned_with_the_transform() {
    let permits = CompressionPermits::new(NonZeroU32::MIN);
    let far = Link { is_far: true };
    let mut headers = hyper::HeaderMap::new();
    headers.insert("accept-encoding", "gzip".parse().unwrap());
    let plan =
        |permits| PlannedCompression::of(&CompressionRules::default(), &headers, far, permits);
    let first = plan(&permits).unwrap();
    assert_eq!(first.coding(), ContentCoding::Gzip);
    assert!(plan(&permits).is_none(), "the only permit is taken");
    let transform = first.start();
    let mut same = CompressionPermits::new(NonZeroU32::MIN);
    same.continue_from(&permits);
    assert!(plan(&same).is_none(), "a reload without a change keeps the permits");
    let mut other = CompressionPermits::new(NonZeroU32::MIN.saturating_add(1));
    other.continue_from(&permits);
    assert!(plan(&other).is_some(), "a reload with another number has new permits");
    drop(transform);
    assert!(plan(&permits).is_some());
}

#[test]
fn an_answer_is_compressed_for_those_who_ask_and_for_whom_the_rules_say_so() {
    let permits = CompressionPermits::default();
    for (compress_for, is_far, expected) in [
        (CompressFor::Nobody, true, false),
        (CompressFor::All, false, true),
        (CompressFor::FarAway, false, false),
        (CompressFor::FarAway, true, true),
    ] {
        for (accepts, control, asked) in [
            (Some("gzip"), None, true),
            (None, None, false),
            (Some("identity"), None, false),
            (Some("gzip"), Some("no-transform"), false),
            (Some("gzip"), Some("no-cache"), true),
        ] {
            let mut headers = hyper::HeaderMap::new();
            accepts.map(|value| headers.insert("accept-encoding", value.parse().unwrap()));
            control.map(|value| headers.insert("cache-control", value.parse().unwrap()));
            let rules = CompressionRules { compress_for, ..CompressionRules::default() };
            let plan = PlannedCompression::of(&rules, &headers, Link { is_far }, &permits);
            let context = format!("{compress_for:?} {is_far} {accepts:?} {control:?}");
            assert_eq!(plan.is_some(), expected && asked, "{context}");
        }
    }
}
