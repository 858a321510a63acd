#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;

use super::*;
use crate::scrape::source::scripted::{Scripted, Step, poll};

const FAULT: Abort = Abort::ExporterCutShort;

/// The calls of all transforms of a chain, in order.
type Calls = Arc<Mutex<Vec<String>>>;

/// Passes everything unchanged, with a mark for each flush and for the end. Fails at `fails_at`.
#[derive(Debug)]
struct Marking {
    name: &'static str,
    calls: Calls,
    fails_at: Option<&'static str>,
}

impl Marking {
    fn call(&self, call: &str) -> Result<(), Abort> {
        self.calls.lock().unwrap().push(format!("{} {call}", self.name));
        if self.fails_at == Some(call) { Err(Abort::Panicked) } else { Ok(()) }
    }
}

impl Transform for Marking {
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
        self.call(std::str::from_utf8(&data).unwrap())?;
        out.push(data);
        Ok(())
    }

    fn flush(&mut self, out: &mut Out) -> Result<(), Abort> {
        self.call("flush")?;
        out.push(Bytes::from_static(b";"));
        Ok(())
    }

    fn finish(&mut self, out: &mut Out) -> Result<(), Abort> {
        self.call("finish")?;
        out.push(Bytes::from_static(b"."));
        Ok(())
    }
}

/// Transforms `a` and `b` after the source, and their calls. `b` fails at `fails_at`.
fn chain<const N: usize>(
    steps: [Step; N],
    fails_at: Option<&'static str>,
) -> (Transformed<Scripted>, Calls) {
    let calls = Calls::default();
    let marking = |name, fails_at| -> Box<dyn Transform> {
        Box::new(Marking { name, calls: Arc::clone(&calls), fails_at })
    };
    let transforms = Transforms::new(vec![marking("a", None), marking("b", fails_at)]);
    (Transformed::new(Scripted::new(steps), transforms), calls)
}

/// The results of all polls until the body ends or fails, as text. `Pending` is `~`.
fn read(body: &mut Transformed<Scripted>) -> (String, Option<Abort>) {
    let mut text = String::new();
    loop {
        match poll(body) {
            Poll::Pending => text.push('~'),
            Poll::Ready(Some(Ok(bytes))) => {
                assert!(!bytes.is_empty(), "empty bytes");
                text.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            Poll::Ready(Some(Err(abort))) => return (text, Some(abort)),
            Poll::Ready(None) => return (text, None),
        }
    }
}

#[test]
fn identity_passes_each_chunk_without_a_copy() {
    #[derive(Debug)]
    struct Identity;
    impl Transform for Identity {
        fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
            out.push(data);
            Ok(())
        }
        fn flush(&mut self, _: &mut Out) -> Result<(), Abort> {
            Ok(())
        }
        fn finish(&mut self, _: &mut Out) -> Result<(), Abort> {
            Ok(())
        }
    }
    let chunks = ["one", "two", "three"];
    let steps = [Step::Bytes(chunks[0]), Step::Bytes(chunks[1]), Step::Bytes(chunks[2]), Step::End];
    let transforms = Transforms::new(vec![Box::new(Identity), Box::new(Identity)]);
    let mut body = Transformed::new(Scripted::new(steps), transforms);
    for chunk in chunks {
        let Poll::Ready(Some(Ok(bytes))) = poll(&mut body) else { panic!("no chunk") };
        assert_eq!((bytes.as_ptr(), bytes.len()), (chunk.as_ptr(), chunk.len()));
    }
    assert_eq!(poll(&mut body), Poll::Ready(None));
}

#[test]
fn a_chain_is_flushed_once_for_each_pause_and_finished_once_and_last() {
    let steps = [
        // Nothing has arrived since the start, so there is nothing to flush.
        Step::Pause,
        Step::Bytes("1"),
        Step::Bytes("2"),
        Step::Pause,
        // The task was woken for another reason.
        Step::Pause,
        Step::Pause,
        Step::Bytes("3"),
        // The source is polled again after a flush.
        Step::Pause,
        Step::Pause,
        Step::End,
    ];
    let (mut body, calls) = chain(steps, None);
    assert_eq!(read(&mut body), ("~12;;~~3;;~..".to_owned(), None));
    let expected = [
        "a 1", "b 1", "a 2", "b 2", "a flush", "b ;", "b flush", "a 3", "b 3", "a flush", "b ;",
        "b flush", "a finish", "b .", "b finish",
    ];
    assert_eq!(*calls.lock().unwrap(), expected);
    // The script is over: another poll of the source would panic.
    assert_eq!(poll(&mut body), Poll::Ready(None));
    assert_eq!(calls.lock().unwrap().len(), expected.len());
}

#[test]
fn an_error_of_the_source_is_final_and_nothing_is_finished() {
    for pauses in [false, true] {
        let (mut body, calls) = if pauses {
            chain([Step::Bytes("1"), Step::Pause, Step::Pause, Step::Fault(FAULT)], None)
        } else {
            chain([Step::Bytes("1"), Step::Fault(FAULT)], None)
        };
        assert_eq!(read(&mut body).1, Some(FAULT));
        for _ in 0..3 {
            assert_eq!(poll(&mut body), Poll::Ready(Some(Err(FAULT))));
            assert!(!body.is_end());
        }
        let calls = calls.lock().unwrap();
        assert!(!calls.iter().any(|call| call.ends_with("finish")), "{calls:?}");
    }
}

#[test]
fn an_error_of_a_transform_is_final_whichever_call_fails() {
    for (fails_at, before) in [("2", 3), ("flush", 6), ("finish", 11)] {
        let steps = [
            Step::Bytes("1"),
            Step::Bytes("2"),
            Step::Pause,
            Step::Pause,
            Step::Bytes("3"),
            Step::End,
        ];
        let (mut body, calls) = chain(steps, Some(fails_at));
        assert_eq!(read(&mut body).1, Some(Abort::Panicked), "{fails_at}");
        for _ in 0..3 {
            assert_eq!(poll(&mut body), Poll::Ready(Some(Err(Abort::Panicked))), "{fails_at}");
            assert!(!body.is_end(), "{fails_at}");
        }
        let calls = calls.lock().unwrap();
        assert_eq!(calls.last(), Some(&format!("b {fails_at}")));
        assert!(calls.len() > before, "{calls:?}");
    }
}

#[test]
fn a_body_is_at_its_end_only_after_the_whole_source_and_an_empty_output() {
    let (mut body, _) = chain([Step::Bytes("1"), Step::End], None);
    for expected in ["1", ".", "."] {
        assert!(!body.is_end(), "before {expected:?}");
        let bytes = Bytes::from_static(expected.as_bytes());
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(bytes))));
    }
    assert!(body.is_end());
    assert_eq!(poll(&mut body), Poll::Ready(None));
    assert!(body.is_end());
}

#[test]
fn a_source_that_knows_its_end_does_not_end_the_body_before_the_transforms_are_finished() {
    let calls = Calls::default();
    let marking = Marking { name: "a", calls, fails_at: None };
    let source = Scripted::new([Step::Bytes("1"), Step::End]).with_known_end();
    let mut body = Transformed::new(source, Transforms::new(vec![Box::new(marking)]));
    assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(Bytes::from_static(b"1")))));
    assert!(!body.is_end());
    assert_eq!(read(&mut body), (".".to_owned(), None));
}

#[test]
fn an_empty_body_is_finished_too() {
    let (mut body, calls) = chain([Step::End], None);
    assert!(!body.is_end());
    assert_eq!(read(&mut body), ("..".to_owned(), None));
    assert_eq!(*calls.lock().unwrap(), ["a finish", "b .", "b finish"]);
}

/// Holds its output back for a while.
#[derive(Debug)]
struct Holding(Marking);

impl Transform for Holding {
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
        self.0.push(data, out)
    }

    fn flush(&mut self, out: &mut Out) -> Result<(), Abort> {
        self.0.flush(out)
    }

    fn finish(&mut self, out: &mut Out) -> Result<(), Abort> {
        self.0.finish(out)
    }

    fn hold(&self) -> Duration {
        Duration::from_millis(150)
    }
}

fn holding<const N: usize>(steps: [Step; N]) -> Transformed<Scripted> {
    let marking = Marking { name: "a", calls: Calls::default(), fails_at: None };
    let transforms = Transforms::new(vec![Box::new(Holding(marking))]);
    Transformed::new(Scripted::new(steps), transforms)
}

fn ready(text: &'static str) -> Poll<Option<Result<Bytes, Abort>>> {
    Poll::Ready(Some(Ok(Bytes::from_static(text.as_bytes()))))
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_until_the_oldest_bytes_have_been_held_for_the_given_time() {
    let ms = |count| tokio::time::advance(Duration::from_millis(count));
    let pause = [Step::Pause; 4];
    let [p1, p2, p3, p4] = pause;
    let steps = [Step::Bytes("1"), p1, Step::Bytes("2"), p2, p3, p4, Step::Bytes("3"), Step::End];
    let mut body = holding(steps);
    assert_eq!(poll(&mut body), ready("1"));
    assert_eq!(poll(&mut body), Poll::Pending);
    ms(100).await;
    assert_eq!(poll(&mut body), ready("2"));
    ms(48).await;
    assert_eq!(poll(&mut body), Poll::Pending);
    // 150 ms after the first bytes, with the granularity of the timer.
    ms(3).await;
    assert_eq!(poll(&mut body), ready(";"));
    // Everything is flushed, so nothing more is to be waited for.
    ms(1000).await;
    assert_eq!(poll(&mut body), Poll::Pending);
    assert_eq!(read(&mut body), ("3.".to_owned(), None));
}

#[tokio::test(start_paused = true)]
async fn the_timer_of_a_flush_wakes_the_task_once_for_each_pause() {
    let [a, b, c, d] = [Step::Pause; 4];
    // Only the timer wakes the task after a pause.
    let mut body = holding([Step::Bytes("1"), a, b, Step::Bytes("2"), c, d]);
    let begun = Instant::now();
    let mut flushed = Vec::new();
    while flushed.len() < 2 {
        let next = std::future::poll_fn(|cx| body.poll_chunk(cx)).await;
        if next == Some(Ok(Bytes::from_static(b";"))) {
            flushed.push(begun.elapsed().as_millis());
        }
    }
    assert!((150..=152).contains(&flushed[0]), "{flushed:?}");
    assert!((300..=304).contains(&flushed[1]), "{flushed:?}");
}

#[test]
fn a_fast_source_pauses_for_a_moment_after_each_turn() {
    struct Noted(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Noted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let large: &'static str = Box::leak("x".repeat(Pace::Slow.turn() / 2).into_boxed_str());
    let [a, b, c] = [Step::Bytes(large); 3];
    let (mut body, _) = chain([a, b, c, Step::End], None);
    let noted = Arc::new(Noted(0.into()));
    let waker = Arc::clone(&noted).into();
    let mut cx = Context::from_waker(&waker);
    let mut next =
        || body.poll_chunk(&mut cx).map(|next| next.map(|bytes| bytes.map(|it| it.len())));
    let piece = Poll::Ready(Some(Ok(Pace::Slow.turn() / 2)));
    assert_eq!([next(), next()], [piece, piece]);
    assert_eq!(next(), Poll::Pending);
    assert_eq!(noted.0.load(std::sync::atomic::Ordering::Relaxed), 1, "polled again at once");
    assert_eq!(next(), piece);
}

#[test]
fn transforms_are_freed_when_the_source_has_ended_although_output_is_left() {
    let (mut body, calls) = chain([Step::Bytes("x"), Step::End], None);
    assert_eq!(Arc::strong_count(&calls), 3);
    let mut polls = 0;
    while !matches!(poll(&mut body), Poll::Ready(None)) {
        polls += 1;
        if Arc::strong_count(&calls) == 1 {
            break;
        }
        assert!(polls < 10, "the transforms are still there");
    }
    assert!(!body.is_end(), "output is left");
}

#[test]
fn a_small_output_holds_no_buffer_after_a_release_and_a_large_one_is_not_copied() {
    for (pieces, is_freed) in [(1, true), (3, true), (4, false)] {
        let buffer = Bytes::from(vec![7; LARGE]);
        let mut out = Out::default();
        for _ in 0..pieces {
            out.push(buffer.slice(..LARGE / 4));
        }
        out.detach_small();
        assert_eq!(buffer.is_unique(), is_freed, "{pieces}");
        assert_eq!(out.into_iter().collect::<Vec<_>>().concat(), vec![7; pieces * LARGE / 4]);
    }
    let mut none = Out::default();
    none.detach_small();
    assert_eq!(none.into_iter().next(), None);
}

/// Sends 1000 bytes for each poll, and notes how many it is asked for.
#[derive(Debug)]
struct Thousands(usize);

impl Source for Thousands {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        Poll::Ready(Some(Ok(Bytes::from_static(&[b'x'; 1000]))))
    }

    fn is_end(&self) -> bool {
        false
    }

    fn release(&mut self) {}

    fn read_up_to(&mut self, size: usize) {
        self.0 = size;
    }
}

/// Passes the beginning of each piece.
#[derive(Debug)]
struct Shortening(usize, Pace);

impl Transform for Shortening {
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
        out.push(data.slice(..self.0));
        Ok(())
    }

    fn flush(&mut self, _: &mut Out) -> Result<(), Abort> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Out) -> Result<(), Abort> {
        Ok(())
    }

    fn pace(&self) -> Pace {
        self.1
    }
}

#[test]
fn as_much_is_read_as_probably_becomes_the_wanted_size() {
    const KIB: usize = 1024;
    for (passes, pace, wanted, read) in [
        (1000, Pace::Fast, 100 * KIB, 100 * KIB),
        (700, Pace::Fast, 100 * KIB, 100 * KIB),
        (500, Pace::Fast, 50 * KIB, 100 * KIB),
        (250, Pace::Fast, 25 * KIB, 100 * KIB),
        (1, Pace::Fast, KIB, 128 * KIB),
        (1000, Pace::Fast, 1000 * KIB, 128 * KIB),
        (1000, Pace::Slow, 100 * KIB, 64 * KIB),
        (100, Pace::Slow, 6 * KIB, 60 * KIB),
    ] {
        let shortening = Transforms::new(vec![Box::new(Shortening(passes, pace))]);
        let mut body = Transformed::new(Thousands(0), shortening);
        body.read_up_to(wanted);
        assert_eq!(body.source.0, wanted.min(pace.largest_read()), "before the first byte");
        for _ in 0..20 {
            assert!(poll(&mut body).is_ready());
        }
        body.read_up_to(wanted);
        assert_eq!(body.source.0, read, "{passes} {pace:?}");
    }
}

#[test]
fn the_slowest_transform_sets_the_pace() {
    let chain = |paces: &[Pace]| {
        let transform = |&pace| -> Box<dyn Transform> { Box::new(Shortening(1, pace)) };
        Transforms::new(paces.iter().map(transform).collect()).pace()
    };
    assert_eq!(chain(&[Pace::Fast, Pace::Fast]), Pace::Fast);
    assert_eq!(chain(&[Pace::Fast, Pace::Slow]), Pace::Slow);
    assert_eq!(chain(&[Pace::Slow, Pace::Fast]), Pace::Slow);
}
