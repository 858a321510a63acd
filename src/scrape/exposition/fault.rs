//! The faults of a text, and their effect in Prometheus.

/// What Prometheus does with an answer that has a fault, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Prometheus accepts the answer. `promtool check metrics` rejects it.
    Promtool,
    /// Prometheus reads the part before the fault and ignores everything after it.
    Ignored,
    /// Prometheus 2.42 rejects the whole answer. Prometheus 3 accepts it.
    RefusedBefore3,
    /// Every version rejects the whole answer: `up` is 0, and no sample is stored.
    Refused,
}

/// A fault in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are not UTF-8, in a label value or a `# HELP` line.
    #[error("not UTF-8")]
    NotUtf8,
    /// A metric name is missing or invalid.
    #[error("missing or invalid metric name")]
    Name,
    /// Invalid braces, names or quotes in the labels.
    #[error("malformed labels")]
    Labels,
    /// A label value whose closing quote is missing.
    #[error("label value without a closing quote")]
    OpenQuote,
    /// A sample has the same label twice.
    #[error("duplicate label")]
    DuplicateLabel,
    /// A label with the name `__name__`.
    #[error("label __name__, which is reserved for the metric name")]
    ReservedLabel,
    /// The value is missing, or is not a number.
    #[error("missing or invalid value")]
    Value,
    /// A timestamp that is not a number, or more than one timestamp.
    #[error("malformed timestamp")]
    Timestamp,
    /// An invalid exemplar.
    #[error("malformed exemplar")]
    Exemplar,
    /// `# TYPE` with a type that the format does not have.
    #[error("unknown type")]
    Type,
    /// In OpenMetrics, `# HELP`, `# TYPE` or `# UNIT` with too few or too many parts or blanks.
    #[error("malformed HELP, TYPE or UNIT line")]
    Metadata,
    /// `# UNIT` with a unit that is not the suffix of the family's name.
    #[error("metric name does not end with its unit")]
    Unit,
    /// An empty line in OpenMetrics.
    #[error("empty line, which OpenMetrics does not allow")]
    Blank,
    /// A comment in OpenMetrics, other than `HELP`, `TYPE`, `UNIT` and `EOF`.
    #[error("comment, which OpenMetrics does not allow")]
    Comment,
    /// Text after `# EOF`.
    #[error("text after # EOF")]
    AfterEof,
    /// OpenMetrics that ends without `# EOF`.
    #[error("missing # EOF at the end of OpenMetrics")]
    NoEof,
    /// A quoted metric or label name, which can contain any character.
    #[error("quoted name")]
    QuotedName,
    /// Spaces or tabs before a sample.
    #[error("blanks before the metric name, which Prometheus 3 makes part of the name")]
    Indented,
    /// In OpenMetrics, a comma before the closing brace.
    #[error("comma before the closing brace")]
    TrailingComma,
    /// An exemplar on a sample that is neither a bucket nor a counter.
    #[error("exemplar on a metric that does not end in _bucket or _total")]
    ExemplarName,
    /// A NUL byte at the start of a line or comment.
    #[error("NUL byte, after which Prometheus ignores the text")]
    Nul,
    /// A second `# TYPE` for one family, or a `# TYPE` after its samples.
    #[error("second # TYPE for this family, or # TYPE after its samples")]
    LateType,
    /// A second `# HELP` for one family.
    #[error("second # HELP for this family")]
    SecondHelp,
    /// A backslash before a character that cannot be escaped.
    #[error("invalid escape sequence")]
    Escape,
    /// A raw newline in a label value.
    #[error("raw newline in a label value; must be written as \\n")]
    RawNewline,
    /// The `le` of a histogram or the `quantile` of a summary is not a number.
    #[error("le or quantile is not a number")]
    Bound,
    /// The last line has no newline.
    #[error("missing newline at the end")]
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
            | Self::AfterEof
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
