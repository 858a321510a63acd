//! Ways of dying, and what scrapers had of them.

use std::{collections::BTreeMap, io};

use aws_lc_rs::digest;

use crate::{
    answers::Answer,
    stage::Then,
    support::{
        body::hex,
        client::{Cut, End, Response},
    },
};

/// All ways of an exporter's connection to end.
pub(crate) const ENDS: [Then; 3] = [Then::Fin, Then::Rst, Then::Stall];

/// When an exporter dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Together with the last bytes that it sends.
    AtOnce,
    /// When the proxy has had the time to pass these bytes on.
    Later,
    /// Its last byte comes shortly before the deadline.
    JustInTime,
    /// Its last byte comes shortly after the deadline.
    TooLate,
}

/// How a scraper takes what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Fast,
    /// A little at a time.
    Slow,
    /// Its first kilobyte and then nothing: too little for all but short answers.
    Asleep,
}

/// One way of dying at one place, before one scraper.
#[derive(Clone, Copy)]
pub(crate) struct Death<'a> {
    pub(crate) answer: &'a Answer,
    /// Bytes of the answer that are sent.
    pub(crate) cut: usize,
    pub(crate) then: Then,
    pub(crate) moment: Moment,
    pub(crate) reader: Reader,
}

impl Death<'_> {
    /// Whether the exporter delivered a whole message, and the scraper could have it in time.
    pub(crate) fn is_whole(&self) -> bool {
        self.answer.is_whole(self.cut, self.then)
            && self.moment != Moment::TooLate
            && self.reader != Reader::Asleep
    }

    pub(crate) fn story(&self) -> String {
        let Self { answer, cut, then, moment, reader } = self;
        let last = &answer.bytes[cut.saturating_sub(20)..*cut];
        format!(
            "{}, {:?}: cut after {cut} of {} bytes, at \"{}\", then {then:?} {moment:?}, {reader:?}",
            answer.name,
            answer.framing,
            answer.bytes.len(),
            last.escape_ascii()
        )
    }
}

/// What scrapers had of many deaths, and how that compares with what exporters delivered.
#[derive(Default)]
pub(crate) struct Tally {
    /// Deaths by their kind, in words.
    kinds: BTreeMap<String, usize>,
    whole: usize,
    refused: usize,
    cut: usize,
    /// Whole to the scraper and not at the exporter; their stories.
    silent: Vec<String>,
    /// Whole at the exporter and not to the scraper.
    false_aborts: Vec<String>,
    /// Neither the exporter's answer, nor the start of it, nor a refusal.
    foreign: Vec<String>,
}

impl Tally {
    /// Counts what a scraper had.
    pub(crate) fn count(&mut self, death: &Death<'_>, received: io::Result<Response>) {
        let mut count = |kind: String| *self.kinds.entry(kind).or_default() += 1;
        count(format!("{:?}", death.then));
        count(format!("{:?}", death.moment));
        count(format!("{:?} reader", death.reader));
        let (had_whole, fault) = match received {
            Err(error) => {
                self.cut += 1;
                (false, fault_of_cut(&Cut::from(error)))
            }
            Ok(response) => match &response.body.end {
                End::Incomplete(cut) => {
                    self.cut += 1;
                    (false, fault_of_cut(cut).or_else(|| fault_of_start(death, &response)))
                }
                End::Complete if response.head.status == death.answer.status => {
                    self.whole += 1;
                    (true, fault_of_whole(death, &response))
                }
                End::Complete => {
                    self.refused += 1;
                    let is_own = [502, 504].contains(&response.head.status);
                    (false, (!is_own).then_some("nobody's status"))
                }
            },
        };
        self.foreign.extend(fault.map(|fault| format!("{fault}: {}", death.story())));
        match (had_whole, death.is_whole()) {
            (true, true) | (false, false) => {}
            (true, false) => self.silent.push(death.story()),
            (false, true) => self.false_aborts.push(death.story()),
        }
    }

    /// Adds what others counted.
    pub(crate) fn add(&mut self, other: Self) {
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.whole += other.whole;
        self.refused += other.refused;
        self.cut += other.cut;
        self.silent.extend(other.silent);
        self.false_aborts.extend(other.false_aborts);
        self.foreign.extend(other.foreign);
    }

    /// How many deaths there were.
    pub(crate) fn all(&self) -> usize {
        self.whole + self.refused + self.cut
    }

    /// How many scrapers had a whole answer.
    pub(crate) fn whole(&self) -> usize {
        self.whole
    }

    /// Prints the counts and asserts that there were `least` deaths and no mistake.
    #[expect(clippy::print_stdout, reason = "the counts are what this test is for")]
    pub(crate) fn conclude(&self, place: &str, least: usize) {
        let kinds: Vec<_> = self.kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        println!("{place}: {} cuts ({})", self.all(), kinds.join(", "));
        println!(
            "{place}: {} whole, {} refused, {} cut off; {} silent truncations, {} false aborts, {} \
             with other bytes or ends",
            self.whole,
            self.refused,
            self.cut,
            self.silent.len(),
            self.false_aborts.len(),
            self.foreign.len()
        );
        let some = |stories: &[String]| stories.iter().take(5).cloned().collect::<Vec<_>>();
        assert!(self.silent.is_empty(), "truncated and whole: {:#?}", some(&self.silent));
        assert!(self.false_aborts.is_empty(), "aborted: {:#?}", some(&self.false_aborts));
        assert!(self.foreign.is_empty(), "neither whole nor cut: {:#?}", some(&self.foreign));
        assert!(self.all() >= least, "only {} cuts", self.all());
        let each = [self.whole, self.refused, self.cut];
        assert!(each.iter().all(|count| *count > 0), "an outcome that never came: {each:?}");
    }
}

/// Whoever trusts the end of a connection must not take this one for the end of the message.
fn fault_of_cut(cut: &Cut) -> Option<&'static str> {
    match cut {
        Cut::Reset | Cut::NoCloseNotify => None,
        Cut::CloseNotify => Some("ended in order"),
        Cut::BadFraming(_) | Cut::Other(_) => Some("no HTTP"),
    }
}

fn fault_of_start(death: &Death<'_>, response: &Response) -> Option<&'static str> {
    let delivered = death.answer.delivered(death.cut);
    let (start, bytes) = (&response.body.start, response.body.bytes);
    let is_start = delivered.starts_with(start) && bytes <= delivered.len() as u64;
    (!is_start).then_some("other bytes")
}

fn fault_of_whole(death: &Death<'_>, response: &Response) -> Option<&'static str> {
    let delivered = digest::digest(&digest::SHA256, death.answer.delivered(death.cut));
    (response.body.sha256 != hex(delivered.as_ref())).then_some("other bytes")
}
