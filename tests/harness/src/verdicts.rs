//! The table of bodies in `tests/data/verdicts.txt`.

use std::str::Chars;

const TABLE: &str = include_str!("../../data/verdicts.txt");

/// A body, and the verdicts of its readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The line number in the file, from 1.
    pub line: usize,
    /// Whether the body is sent as OpenMetrics. Otherwise it is sent in the text format.
    pub is_openmetrics: bool,
    /// Whether Prometheus 2 accepts the scrape.
    pub up_in_2: bool,
    /// Whether Prometheus 3 accepts the scrape.
    pub up_in_3: bool,
    /// The number of samples. `None` if the target is down.
    pub samples: Option<u64>,
    /// Whether promtool can read it. `None` for OpenMetrics.
    pub promtool_reads: Option<bool>,
    /// The body of the scrape.
    pub body: Vec<u8>,
}

impl Row {
    /// The header line for the body's content type.
    pub fn content_type(&self) -> &'static str {
        if self.is_openmetrics {
            "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        } else {
            "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        }
    }

    /// The line in the file, and its text.
    pub fn place(&self) -> String {
        format!("verdicts.txt:{}: {}", self.line, self.body.escape_ascii())
    }
}

/// All rows, in the order of the file.
///
/// # Panics
/// If a line of the file is neither empty, nor a comment, nor a row.
pub fn rows() -> Vec<Row> {
    let lines = TABLE.lines().enumerate();
    lines
        .filter(|(_, text)| !text.is_empty() && !text.starts_with('#'))
        .map(|(index, text)| {
            row(index + 1, text).unwrap_or_else(|| panic!("verdicts.txt:{}: {text}", index + 1))
        })
        .collect()
}

fn row(line: usize, text: &str) -> Option<Row> {
    let (columns, body) = text.split_once('"')?;
    let columns: Vec<&str> = columns.split_whitespace().collect();
    let &[format, two, three, samples, promtool] = &*columns else { return None };
    let is_up = |word| match word {
        "up" => Some(true),
        "down" => Some(false),
        _ => None,
    };
    Some(Row {
        line,
        is_openmetrics: match format {
            "openmetrics" => true,
            "text" => false,
            _ => return None,
        },
        up_in_2: is_up(two)?,
        up_in_3: is_up(three)?,
        samples: match samples {
            "-" => None,
            number => Some(number.parse().ok()?),
        },
        promtool_reads: match promtool {
            "reads" => Some(true),
            "refuses" => Some(false),
            "-" => None,
            _ => return None,
        },
        body: unescaped(body.strip_suffix('"')?.chars())?,
    })
}

fn unescaped(mut text: Chars<'_>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(character) = text.next() {
        bytes.push(match character {
            '\\' => match text.next()? {
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                '0' => 0,
                'x' => {
                    let digits: String = text.by_ref().take(2).collect();
                    u8::from_str_radix(&digits, 16).ok()?
                }
                literal @ ('\\' | '"') => u8::try_from(literal).ok()?,
                _ => return None,
            },
            plain => u8::try_from(plain).ok().filter(u8::is_ascii)?,
        });
    }
    Some(bytes)
}
