//! The ways in which an exporter dies, and what the scraper receives.

use std::{borrow::Cow, collections::BTreeMap, io, sync::Arc};

use aws_lc_rs::digest;
use bytes::Bytes;
use scrapegate::{
    common::{compression::ContentCoding, exporter::Exporter},
    scrape::{
        exposition::ExpositionFormat,
        transform::{Out, Transform, compression::Compression, filter::Filter},
    },
};
use scrapegate_harness::{
    body::hex,
    client::{Cut, End, Received, Response},
    decoder::Decoded,
    in_memory::{exporter, exporter_without},
    testbed::Then,
    transform::{Doubling, Hoarding, Identity},
};

use crate::answers::Answer;

/// `metrics-drop` of [`Chain::Filter`].
pub(crate) const DROP: &str = "left_.*|b|c";

/// All ways in which an exporter's connection can end.
pub(crate) const ENDS: [Then; 3] = [Then::Fin, Then::Rst, Then::Stall];

/// When an exporter dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Together with its last bytes.
    AtOnce,
    /// After the proxy has had time to pass its last bytes on.
    Later,
    /// Its last byte comes shortly before the deadline.
    JustInTime,
    /// Its last byte comes shortly after the deadline.
    TooLate,
}

/// How a scraper reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Fast,
    /// Slowly, a few bytes at a time.
    Slow,
    /// The first kilobyte and then nothing, which is too little for all but short responses.
    Asleep,
}

/// What the proxy does with the bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Chain {
    #[default]
    Empty,
    Identity,
    /// Every byte twice.
    Doubling,
    /// All bytes at the end, and then a trailer.
    Hoarding,
    /// Compressed bytes.
    Compressed(ContentCoding),
    /// Leaves out the families that [`DROP`] matches.
    Filter,
    /// The same, and then compressed bytes.
    FilterCompressed(ContentCoding),
}

impl Chain {
    pub(crate) fn transforms(self) -> Vec<Box<dyn Transform>> {
        match self {
            Self::Empty => Vec::new(),
            Self::Identity => vec![Box::new(Identity)],
            Self::Doubling => vec![Box::new(Doubling)],
            Self::Hoarding => vec![Box::new(Identity), Box::<Hoarding>::default()],
            // The filter is in the configuration of the exporter.
            Self::Compressed(coding) | Self::FilterCompressed(coding) => {
                vec![Box::new(Compression::new(coding))]
            }
            Self::Filter => Vec::new(),
        }
    }

    /// The coding of the bodies that scrapers receive.
    pub(crate) fn coding(self) -> Option<ContentCoding> {
        match self {
            Self::Compressed(coding) | Self::FilterCompressed(coding) => Some(coding),
            Self::Empty | Self::Identity | Self::Doubling | Self::Hoarding | Self::Filter => None,
        }
    }

    /// Whether the filter comes first.
    pub(crate) fn filters(self) -> bool {
        matches!(self, Self::Filter | Self::FilterCompressed(_))
    }

    pub(crate) fn exporter(self) -> Exporter {
        if self.filters() { exporter_without(DROP) } else { exporter() }
    }

    /// The responses that this chain is tested with.
    pub(crate) fn answers(self) -> Vec<Answer> {
        if self.filters() { Answer::of_families() } else { Answer::all() }
    }

    /// What the scraper makes of a body, and whether that is whole.
    fn decoded(self, body: &Received) -> (Cow<'_, [u8]>, bool) {
        let Some(coding) = self.coding() else {
            return (Cow::from(&body.start), true);
        };
        assert_eq!(body.start.len() as u64, body.bytes, "too long to be decoded");
        let Decoded { bytes, is_clean } = Decoded::of(coding, &body.start);
        (bytes.into(), is_clean)
    }

    /// The largest possible output for `bytes`, decoded. `is_whole`: no more bytes follow.
    fn output(self, bytes: &[u8], is_whole: bool) -> Cow<'_, [u8]> {
        match self {
            Self::Empty | Self::Identity | Self::Compressed(_) => bytes.into(),
            Self::Doubling => Doubling::of(bytes).into(),
            Self::Hoarding if is_whole => [bytes, Hoarding::TRAILER].concat().into(),
            Self::Hoarding => Cow::default(),
            Self::Filter | Self::FilterCompressed(_) => filtered(bytes, is_whole).into(),
        }
    }
}

/// What the filter passes on of a body that begins with `bytes`. The fuzz target `filter` finds out
/// whether this is right.
fn filtered(bytes: &[u8], is_whole: bool) -> Vec<u8> {
    let rules = exporter_without(DROP).rules.families.expect("rules");
    let mut filter = Filter::new(rules, ExpositionFormat::Text, Arc::default());
    let mut out = Out::default();
    filter.push(Bytes::copy_from_slice(bytes), &mut out).expect("a filter never fails");
    if is_whole {
        filter.finish(&mut out).expect("a filter never fails");
    }
    out.into_iter().flatten().collect()
}

/// One way to die, at one position, with one kind of scraper.
#[derive(Clone, Copy)]
pub(crate) struct Death<'a> {
    pub(crate) answer: &'a Answer,
    /// Number of bytes of the response that are sent.
    pub(crate) cut: usize,
    pub(crate) then: Then,
    pub(crate) moment: Moment,
    pub(crate) reader: Reader,
    pub(crate) chain: Chain,
}

impl Death<'_> {
    /// Whether the exporter delivered a complete message that the scraper could receive in time.
    pub(crate) fn is_whole(&self) -> bool {
        self.answer.is_whole(self.cut, self.then)
            && self.moment != Moment::TooLate
            && self.reader != Reader::Asleep
    }

    /// The body that the scraper may receive: the delivered bytes, transformed.
    pub(crate) fn output(&self) -> Cow<'_, [u8]> {
        let is_whole = self.answer.is_whole(self.cut, self.then);
        if self.chain.filters() && self.answer.status != 200 {
            return self.answer.delivered(self.cut).into();
        }
        self.chain.output(self.answer.delivered(self.cut), is_whole)
    }

    pub(crate) fn story(&self) -> String {
        let Self { answer, cut, then, moment, reader, chain } = self;
        let last = &answer.bytes[cut.saturating_sub(20)..*cut];
        format!(
            "{}, {:?}: cut after {cut} of {} bytes, at \"{}\", then {then:?} {moment:?}, {reader:?}, {chain:?}",
            answer.name,
            answer.framing,
            answer.bytes.len(),
            last.escape_ascii()
        )
    }
}

/// The results of many deaths: what scrapers received, compared with what exporters delivered.
#[derive(Default)]
pub(crate) struct Tally {
    /// Number of deaths of each kind.
    kinds: BTreeMap<String, usize>,
    whole: usize,
    refused: usize,
    cut: usize,
    /// The most bytes of a body that were cut off.
    longest_cut: u64,
    /// Complete for the scraper but not from the exporter. Must be empty.
    silent: Vec<String>,
    /// Complete from the exporter but not for the scraper. Must be empty.
    false_aborts: Vec<String>,
    /// Neither the exporter's response, nor the start of it, nor a refusal. Must be empty.
    foreign: Vec<String>,
}

impl Tally {
    /// Adds the result of one death.
    pub(crate) fn count(&mut self, death: &Death<'_>, received: io::Result<Response>) {
        let mut count = |kind: String| *self.kinds.entry(kind).or_default() += 1;
        count(format!("{:?}", death.then));
        count(format!("{:?}", death.moment));
        count(format!("{:?} reader", death.reader));
        count(format!("{:?} chain", death.chain));
        let (had_whole, fault) = match received {
            Err(error) => {
                self.cut += 1;
                (false, fault_of_cut(&Cut::from(error)))
            }
            Ok(response) => match &response.body.end {
                End::Incomplete(cut) => {
                    self.cut += 1;
                    self.longest_cut = self.longest_cut.max(response.body.bytes);
                    (false, fault_of_cut(cut).or_else(|| fault_of_start(death, &response)))
                }
                End::Complete if response.head.status == death.answer.status => {
                    self.whole += 1;
                    (true, fault_of_whole(death, &response))
                }
                End::Complete => {
                    self.refused += 1;
                    let is_own = [502, 504].contains(&response.head.status);
                    (false, (!is_own).then_some("unexpected status"))
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

    /// Adds the results of another tally.
    pub(crate) fn add(&mut self, other: Self) {
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.whole += other.whole;
        self.refused += other.refused;
        self.cut += other.cut;
        self.longest_cut = self.longest_cut.max(other.longest_cut);
        self.silent.extend(other.silent);
        self.false_aborts.extend(other.false_aborts);
        self.foreign.extend(other.foreign);
    }

    /// The number of deaths.
    pub(crate) fn all(&self) -> usize {
        self.whole + self.refused + self.cut
    }

    /// The length of the longest body that was cut off, in bytes as they were received.
    pub(crate) fn longest_cut(&self) -> u64 {
        self.longest_cut
    }

    /// The number of scrapers that received a complete response.
    pub(crate) fn whole(&self) -> usize {
        self.whole
    }

    /// Prints the counts, and asserts that there were at least `least` deaths and no mistake.
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
        assert!(
            self.silent.is_empty(),
            "truncated but complete for the scraper: {:#?}",
            some(&self.silent)
        );
        assert!(self.false_aborts.is_empty(), "aborted: {:#?}", some(&self.false_aborts));
        assert!(self.foreign.is_empty(), "unexpected bytes or ends: {:#?}", some(&self.foreign));
        assert!(self.all() >= least, "only {} cuts", self.all());
        let each = [self.whole, self.refused, self.cut];
        assert!(each.iter().all(|count| *count > 0), "an outcome that did not occur: {each:?}");
    }
}

/// The fault if a client that treats the end of the connection as the end of the message would take
/// this message for complete.
fn fault_of_cut(cut: &Cut) -> Option<&'static str> {
    match cut {
        Cut::Reset | Cut::NoCloseNotify => None,
        Cut::CloseNotify => Some("ended in order"),
        Cut::BadFraming(_) | Cut::Other(_) => Some("not HTTP"),
    }
}

fn fault_of_start(death: &Death<'_>, response: &Response) -> Option<&'static str> {
    let delivered = death.output();
    let (start, is_whole) = death.chain.decoded(&response.body);
    if death.chain.coding().is_some() {
        if is_whole {
            return Some("cut, and complete for the decoder");
        }
        return (!delivered.starts_with(&start)).then_some("other bytes");
    }
    let is_start = delivered.starts_with(&start) && response.body.bytes <= delivered.len() as u64;
    (!is_start).then_some("other bytes")
}

fn fault_of_whole(death: &Death<'_>, response: &Response) -> Option<&'static str> {
    if death.chain.coding().is_some() {
        let is_same = death.chain.decoded(&response.body) == (death.output(), true);
        return (!is_same).then_some("other bytes, or not complete for the decoder");
    }
    let delivered = digest::digest(&digest::SHA256, &death.output());
    (response.body.sha256 != hex(delivered.as_ref())).then_some("other bytes")
}
