//! Finds the blocks of a file, and decodes them.

use base64::{
    Engine as _, alphabet,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig},
};

use super::{
    block::{Block, BlockPlace, Damage},
    lines::{Boundary, Run, lines},
};

/// Decodes as OpenSSL does: bits after the last whole byte are ignored, but padding is required.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// All blocks of a file, in file order.
///
/// Lines end in LF, CRLF or CR. Spaces around a line and byte-order marks before it are ignored.
/// Text between blocks is ignored too, unless it looks like the contents of a block.
#[must_use]
pub fn blocks(bytes: &[u8]) -> Vec<Block> {
    let mut scan = Scan::default();
    for (line, text) in lines(bytes) {
        match Boundary::of(text) {
            None => scan.text(text, line),
            Some(Boundary::Begin(label)) => scan.begin(label, line),
            Some(Boundary::End(label)) => scan.end(&label, line),
            Some(Boundary::Damaged { is_begin: true, label, damage }) => {
                scan.damaged_begin(label, line, damage);
            }
            Some(Boundary::Damaged { is_begin: false, label, damage }) => {
                scan.damaged_end(label, line, damage);
            }
        }
    }
    scan.close(Damage::NoEnd);
    scan.end_run();
    scan.blocks
}

#[derive(Default)]
struct Scan<'a> {
    blocks: Vec<Block>,
    open: Option<Open<'a>>,
    /// The current run of base64 lines outside a block.
    run: Option<Run>,
}

/// A block whose END line has not been read yet.
struct Open<'a> {
    label: String,
    line: usize,
    lines: Vec<&'a [u8]>,
    /// What is wrong with its BEGIN line.
    damage: Option<Damage>,
}

impl<'a> Scan<'a> {
    fn text(&mut self, text: &'a [u8], line: usize) {
        if let Some(open) = &mut self.open {
            open.lines.push(text);
        } else if !self.run.as_mut().is_some_and(|run| run.takes(text, line)) {
            self.end_run();
            self.run = Run::begin(text, line);
        }
    }

    /// Ends the current run, and reports it if it looks like a block.
    fn end_run(&mut self) {
        if let Some(run) = self.run.take().filter(Run::looks_like_a_block) {
            let Run { first, last, .. } = run;
            self.push(String::new(), first, Err(Damage::Bare { first, last }));
        }
    }

    fn begin(&mut self, label: String, line: usize) {
        self.close(Damage::NoEnd);
        self.end_run();
        self.open = Some(Open { label, line, lines: Vec::new(), damage: None });
    }

    fn end(&mut self, label: &str, line: usize) {
        let Some(open) = self.open.take() else {
            // The run is dropped, so that the block is reported only once.
            self.run = None;
            self.push(label.to_owned(), line, Err(Damage::NoBegin));
            return;
        };
        let contents = match open.damage {
            Some(damage) => Err(damage),
            None if open.label != label => Err(Damage::OtherEnd),
            None => decode(&open.lines),
        };
        self.push(open.label, open.line, contents);
    }

    /// The damaged block continues to its END line, so that it is reported only once.
    fn damaged_begin(&mut self, label: String, line: usize, damage: Damage) {
        match damage {
            Damage::CommentedOut | Damage::OneLine => {
                self.close(Damage::NoEnd);
                self.end_run();
                self.push(label, line, Err(damage));
            }
            Damage::NoEnd
            | Damage::NoBegin
            | Damage::OtherEnd
            | Damage::Malformed
            | Damage::Bare { .. }
            | Damage::TextBefore
            | Damage::Empty
            | Damage::NotBase64
            | Damage::Encrypted => {
                self.begin(label, line);
                if let Some(open) = &mut self.open {
                    open.damage = Some(damage);
                }
            }
        }
    }

    fn damaged_end(&mut self, label: String, line: usize, damage: Damage) {
        match self.open {
            Some(_) => self.close(damage),
            None => {
                self.run = None;
                self.push(label, line, Err(damage));
            }
        }
    }

    fn close(&mut self, damage: Damage) {
        if let Some(open) = self.open.take() {
            self.push(open.label, open.line, Err(open.damage.unwrap_or(damage)));
        }
    }

    fn push(&mut self, label: String, line: usize, contents: Result<Vec<u8>, Damage>) {
        let number = self.blocks.len() + 1;
        self.blocks.push(Block { place: BlockPlace { number, label, line }, contents });
    }
}

/// Decodes the lines between BEGIN and END, after headers as in RFC 1421 §4.4, if there are any.
fn decode(lines: &[&[u8]]) -> Result<Vec<u8>, Damage> {
    let has_headers =
        lines.iter().find(|line| !line.is_empty()).is_some_and(|line| is_header(line));
    let (headers, body) = if has_headers {
        let end = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
        lines.split_at(end)
    } else {
        (&lines[..0], lines)
    };
    if headers.iter().any(|line| line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED")) {
        return Err(Damage::Encrypted);
    }
    let mut base64 = body.concat();
    base64.retain(|byte| !byte.is_ascii_whitespace());
    if base64.is_empty() {
        return Err(Damage::Empty);
    }
    BASE64.decode(base64).map_err(|_| Damage::NotBase64)
}

/// base64 never contains a colon.
fn is_header(line: &[u8]) -> bool {
    line.contains(&b':')
}
