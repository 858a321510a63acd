//! What can be wrong with a text, and who minds.

/// What Prometheus does with an answer that has a fault; the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Prometheus takes the answer. `promtool check metrics` refuses it.
    Promtool,
    /// Prometheus takes what stands before the fault and ignores everything after it.
    Ignored,
    /// Prometheus 2.42 refuses the whole answer. Prometheus 3 takes it.
    RefusedBefore3,
    /// Every version refuses the whole answer: `up` is 0, and no sample is stored.
    Refused,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are not UTF-8, in a label value or behind `# HELP`.
    #[error("not UTF-8")]
    NotUtf8,
    /// No metric name where one belongs.
    #[error("no valid metric name")]
    Name,
    /// Braces, names or quotes of the labels.
    #[error("malformed labels")]
    Labels,
    /// A label value whose closing quote is missing.
    #[error("label value without a closing quote")]
    OpenQuote,
    /// A label twice in one sample.
    #[error("the same label twice")]
    DuplicateLabel,
    /// A label that is called `__name__`.
    #[error("label __name__, which is reserved for the metric's name")]
    ReservedLabel,
    /// No value, or none that is a number.
    #[error("no valid value")]
    Value,
    /// A timestamp that is no number, or more than one.
    #[error("malformed timestamp")]
    Timestamp,
    /// An exemplar that cannot be read.
    #[error("malformed exemplar")]
    Exemplar,
    /// `# TYPE` with a type that the format does not have.
    #[error("unknown type")]
    Type,
    /// `# HELP`, `# TYPE` or `# UNIT` with too few or too many parts or blanks, in OpenMetrics.
    #[error("malformed HELP, TYPE or UNIT line")]
    Metadata,
    /// `# UNIT` with a unit that the family's name does not end in.
    #[error("unit that is not the end of the metric's name")]
    Unit,
    /// An empty line, in OpenMetrics.
    #[error("empty line, which OpenMetrics does not have")]
    Blank,
    /// A comment other than `HELP`, `TYPE`, `UNIT` and `EOF`, in OpenMetrics.
    #[error("comment, which OpenMetrics does not have")]
    Comment,
    /// Text behind `# EOF`.
    #[error("text behind # EOF")]
    BehindEof,
    /// OpenMetrics that ends without `# EOF`.
    #[error("no # EOF at the end, without which OpenMetrics is not whole")]
    NoEof,
    /// A quoted metric or label name, which may hold any character.
    #[error("quoted name")]
    QuotedName,
    /// Blanks before a sample.
    #[error("blanks before the metric's name, which Prometheus 3 makes part of the name")]
    Indented,
    /// A comma before the closing brace, in OpenMetrics.
    #[error("comma before the closing brace")]
    TrailingComma,
    /// An exemplar of a sample that is neither a bucket nor a counter.
    #[error("exemplar of a metric that ends in neither _bucket nor _total")]
    ExemplarName,
    /// A NUL where a line or a comment begins.
    #[error("NUL byte, which ends the text for Prometheus")]
    Nul,
    /// A second `# TYPE` for one family, or one behind its samples.
    #[error("second # TYPE of this family, or # TYPE behind its samples")]
    LateType,
    /// A second `# HELP` for one family.
    #[error("second # HELP of this family")]
    SecondHelp,
    /// A backslash with a character that it does not escape.
    #[error("invalid escape sequence")]
    Escape,
    /// A newline in a label value that is not written as `\n`.
    #[error("newline in a label value, which should be written \\n")]
    RawNewline,
    /// A `le` of a histogram or a `quantile` of a summary that is no number.
    #[error("value of le or quantile that is not a number")]
    Bound,
    /// The last line has no newline.
    #[error("no newline at the end")]
    NoNewline,
}

impl Fault {
    /// What Prometheus does about it.
    #[must_use]
    pub fn effect(self) -> Effect {
        match self {
            Self::NotUtf8
            | Self::Name
            | Self::Labels
            | Self::OpenQuote
            | Self::DuplicateLabel
            | Self::ReservedLabel
            | Self::Value
            | Self::Timestamp
            | Self::Exemplar
            | Self::Type
            | Self::Metadata
            | Self::Unit
            | Self::Blank
            | Self::Comment
            | Self::BehindEof
            | Self::NoEof => Effect::Refused,
            Self::QuotedName | Self::Indented | Self::TrailingComma | Self::ExemplarName => {
                Effect::RefusedBefore3
            }
            Self::Nul => Effect::Ignored,
            Self::LateType
            | Self::SecondHelp
            | Self::Escape
            | Self::RawNewline
            | Self::Bound
            | Self::NoNewline => Effect::Promtool,
        }
    }
}
