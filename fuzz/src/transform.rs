//! Any chain of transforms behind any source, whatever a transform returns from each call:
//!
//! - The body ends whole if and only if the source ended whole and no transform failed. Otherwise
//!   it fails with the first error, for all later calls too, or is not over.
//! - Each transform gets exactly the output of the one before it, and the scraper that of the last:
//!   all of it if the body ended whole or waits for the source, else the beginning.
//! - `finish` is called only after the whole source, at most once for each transform, and nothing
//!   after it. No transform is called after a failure.
//! - A transform is flushed only in a pause of the source, and once at most. When the body waits,
//!   all transforms have been flushed after their last input, or the body waits for a moment after
//!   the bytes of a turn ([`Pace::turn`]).
//! - `is_end` is true only if the next result is the end. It is true after the end.
//! - The source is not polled after its end or its failure.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use scrapegate::{
    common::error::Abort,
    scrape::{
        source::Source,
        transform::{Out, Pace, Transform, Transformed, Transforms},
    },
};
use scrapegate_harness::transform::Scripted;

use crate::script::Settings;

/// Longest chain.
const LONGEST: usize = 4;

/// Limit for the input of one transform, in bytes. The transforms of a chain can multiply it.
const MOST: usize = 4096;

/// The failure of the source.
const FAULT: Abort = Abort::ExporterCutShort;

/// Number of polls after the end.
const LATER_POLLS: usize = 3;

/// Asserts the property. The first line of `input` is the source: two settings, which are how it
/// ends (0 whole, 1 by a failure, 2 not at all) and whether it knows its end with its last bytes
/// (1), and then its steps. A letter is a pause, any other byte sends as many bytes as its value.
/// Each further line is a [`Scripted`] transform.
///
/// # Panics
///
/// If the property does not hold.
pub fn check(input: &[u8]) {
    let (mut settings, scripts) = Settings::of(input);
    let ending = [Ending::Whole, Ending::Fault, Ending::Never][usize::from(settings.next() % 3)];
    let knows_end = settings.next() % 2 == 1;
    let log = Log::default();
    let steps = steps(settings.steps());
    let most_waits = steps.len() + LATER_POLLS;
    let source = Steps { ending, knows_end, steps, log: log.clone() };
    // The last line needs no line feed, and there may be no transform at all.
    let scripts = scripts.strip_suffix(b"\n").unwrap_or(scripts);
    let scripts: Vec<_> = match scripts {
        b"" => Vec::new(),
        _ => scripts.split(|&byte| byte == b'\n').take(LONGEST).collect(),
    };
    let chain = scripts.iter().enumerate().map(|(place, script)| -> Box<dyn Transform> {
        Box::new(Observed { place, script: Scripted::new(script), taken: 0, log: log.clone() })
    });
    let mut body = Transformed::new(source, Transforms::new(chain.collect()));
    let (yielded, end) = read(&mut body, &log, most_waits);
    let mut history = History::new(scripts.len());
    log.events().iter().for_each(|event| history.add(event));
    history.judge(&yielded, end);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Whole,
    Fault,
    Never,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pause,
    Send(u8),
}

fn steps(script: &[u8]) -> VecDeque<Step> {
    let step = |&byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' => Some(Step::Pause),
        // A source never yields empty bytes.
        0 => None,
        _ => Some(Step::Send(byte)),
    };
    script.iter().filter_map(step).collect()
}

/// Everything that happened, in order.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<Event>>>);

#[derive(Clone, Debug)]
enum Event {
    /// The source was polled.
    Source(Result<Sent, Abort>),
    /// The transform at this place was called.
    Called { place: usize, call: Call, output: Vec<u8>, result: Result<(), Abort> },
    /// The body waits for the source, and has yielded this number of bytes.
    Waits(usize),
}

#[derive(Clone, Debug)]
enum Sent {
    Bytes(Bytes),
    Pause,
    End,
}

#[derive(Clone, Debug)]
enum Call {
    Push(Bytes),
    Flush,
    Finish,
}

impl Log {
    fn add(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The source that an input describes.
#[derive(Debug)]
struct Steps {
    ending: Ending,
    knows_end: bool,
    steps: VecDeque<Step>,
    log: Log,
}

impl Source for Steps {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        let sent = match (self.steps.pop_front(), self.ending) {
            (Some(Step::Send(count)), _) => {
                Ok(Sent::Bytes((0..count).map(|byte| b'a' + byte % 26).collect()))
            }
            (None, Ending::Whole) => Ok(Sent::End),
            (None, Ending::Fault) => Err(FAULT),
            (Some(Step::Pause), _) | (None, Ending::Never) => Ok(Sent::Pause),
        };
        self.log.add(Event::Source(sent.clone()));
        match sent {
            Ok(Sent::Bytes(bytes)) => Poll::Ready(Some(Ok(bytes))),
            Ok(Sent::Pause) => Poll::Pending,
            Ok(Sent::End) => Poll::Ready(None),
            Err(abort) => Poll::Ready(Some(Err(abort))),
        }
    }

    fn is_end(&self) -> bool {
        self.ending == Ending::Whole && self.knows_end && self.steps.is_empty()
    }

    fn release(&mut self) {}

    fn read_up_to(&mut self, _: usize) {}
}

/// A transform whose calls are logged.
#[derive(Debug)]
struct Observed {
    place: usize,
    script: Scripted,
    /// Bytes of input so far.
    taken: usize,
    log: Log,
}

impl Observed {
    fn call(&mut self, call: Call, out: &mut Out) -> Result<(), Abort> {
        let piece = match &call {
            Call::Push(data) => data.clone(),
            Call::Flush | Call::Finish => Bytes::new(),
        };
        self.taken += piece.len();
        let (output, result) =
            if self.taken > MOST { (Vec::new(), Ok(())) } else { self.script.step(piece) };
        self.log.add(Event::Called { place: self.place, call, output: output.concat(), result });
        output.into_iter().for_each(|bytes| out.push(bytes));
        result
    }
}

impl Transform for Observed {
    fn push(&mut self, data: Bytes, out: &mut Out) -> Result<(), Abort> {
        self.call(Call::Push(data), out)
    }

    fn flush(&mut self, out: &mut Out) -> Result<(), Abort> {
        self.call(Call::Flush, out)
    }

    fn finish(&mut self, out: &mut Out) -> Result<(), Abort> {
        self.call(Call::Finish, out)
    }
}

/// Reads the body to its end, or until it has waited `most_waits` times. Returns its bytes and its
/// end, if it has one.
fn read(
    body: &mut Transformed<Steps>,
    log: &Log,
    most_waits: usize,
) -> (Vec<u8>, Option<Result<(), Abort>>) {
    let (mut yielded, mut waits) = (Vec::new(), 0);
    let end = loop {
        match poll(body) {
            Poll::Ready(Some(Ok(bytes))) => {
                assert!(!bytes.is_empty(), "empty bytes");
                yielded.extend_from_slice(&bytes);
            }
            Poll::Pending if waits == most_waits => return (yielded, None),
            Poll::Pending => {
                waits += 1;
                log.add(Event::Waits(yielded.len()));
            }
            Poll::Ready(Some(Err(abort))) => break Err(abort),
            Poll::Ready(None) => break Ok(()),
        }
    };
    for _ in 0..LATER_POLLS {
        assert_eq!(body.is_end(), end.is_ok(), "after {end:?}");
        assert_eq!(poll(body), Poll::Ready(end.err().map(Err)), "after {end:?}");
    }
    (yielded, Some(end))
}

/// Polls once, and compares the result with what `is_end` said before.
fn poll(body: &mut Transformed<Steps>) -> Poll<Option<Result<Bytes, Abort>>> {
    let is_end = body.is_end();
    let next = body.poll_chunk(&mut Context::from_waker(Waker::noop()));
    assert!(!is_end || next == Poll::Ready(None), "{next:?} after `is_end`");
    next
}

/// What happened so far.
#[derive(Debug)]
struct History {
    /// What the source sent, then the output of each transform.
    outputs: Vec<Vec<u8>>,
    transforms: Vec<Seen>,
    /// The last result of the source was a pause.
    pauses: bool,
    /// Bytes of the source since its last pause, or since the body last waited. Short pieces count
    /// for more.
    turn: usize,
    /// The source ended whole.
    is_whole: bool,
    failure: Option<Abort>,
}

/// The calls of one transform.
#[derive(Clone, Debug, Default)]
struct Seen {
    input: Vec<u8>,
    /// There was a call of `push` after the last call of `flush`.
    is_dirty: bool,
    is_flushed_in_pause: bool,
    is_finished: bool,
}

impl History {
    fn new(transforms: usize) -> Self {
        Self {
            outputs: vec![Vec::new(); transforms + 1],
            transforms: vec![Seen::default(); transforms],
            pauses: false,
            turn: 0,
            is_whole: false,
            failure: None,
        }
    }

    fn output(&self) -> &[u8] {
        self.outputs.last().map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, event: &Event) {
        assert_eq!(self.failure, None, "{event:?} after a failure");
        match event {
            Event::Source(result) => self.add_sent(result),
            Event::Called { place, call, output, result } => {
                self.add_call(*place, call);
                self.outputs[place + 1].extend_from_slice(output);
                self.failure = result.err();
            }
            Event::Waits(yielded) => {
                assert_eq!(*yielded, self.output().len(), "bytes are held back");
                let turn = std::mem::take(&mut self.turn);
                if !self.pauses {
                    assert!(turn >= Pace::Slow.turn(), "the body waits, but its source does not");
                    return self.assert_all_passed_on();
                }
                assert!(!self.transforms.iter().any(|it| it.is_dirty), "not flushed: {self:?}");
                self.assert_all_passed_on();
            }
        }
    }

    fn add_sent(&mut self, result: &Result<Sent, Abort>) {
        assert!(!self.is_whole, "the source was polled after its end");
        self.pauses = false;
        self.transforms.iter_mut().for_each(|it| it.is_flushed_in_pause = false);
        match result {
            Ok(Sent::Bytes(bytes)) => {
                self.turn += Pace::Slow.cost(bytes.len());
                self.outputs[0].extend_from_slice(bytes);
            }
            Ok(Sent::Pause) => (self.pauses, self.turn) = (true, 0),
            Ok(Sent::End) => self.is_whole = true,
            Err(abort) => self.failure = Some(*abort),
        }
    }

    fn add_call(&mut self, place: usize, call: &Call) {
        let before_are_finished = self.transforms[..place].iter().all(|it| it.is_finished);
        let transform = &mut self.transforms[place];
        assert!(!transform.is_finished, "{call:?} after `finish`");
        match call {
            Call::Push(data) => {
                assert!(!data.is_empty(), "an empty piece");
                transform.input.extend_from_slice(data);
                transform.is_dirty = true;
            }
            Call::Flush => {
                assert!(self.pauses, "flushed while the source does not pause");
                assert!(!transform.is_flushed_in_pause, "flushed twice in one pause");
                (transform.is_dirty, transform.is_flushed_in_pause) = (false, true);
            }
            Call::Finish => {
                assert!(self.is_whole, "finished before the end of the source");
                assert!(before_are_finished, "finished before the transform before it");
                transform.is_finished = true;
            }
        }
    }

    fn assert_all_passed_on(&self) {
        for (output, transform) in self.outputs.iter().zip(&self.transforms) {
            assert_eq!(*output, transform.input, "output of one and input of the next");
        }
    }

    fn judge(&self, yielded: &[u8], end: Option<Result<(), Abort>>) {
        for (output, transform) in self.outputs.iter().zip(&self.transforms) {
            assert!(output.starts_with(&transform.input), "output of one and input of the next");
        }
        assert!(self.output().starts_with(yielded), "other bytes than the output");
        let expected = match self.failure {
            Some(abort) => Some(Err(abort)),
            None => self.is_whole.then_some(Ok(())),
        };
        assert_eq!(end, expected, "{self:?}");
        if self.failure.is_none() {
            assert_eq!(self.output(), yielded, "not the whole output");
            self.assert_all_passed_on();
        }
        if end == Some(Ok(())) {
            assert!(self.transforms.iter().all(|it| it.is_finished), "not finished: {self:?}");
        }
    }
}
