//! Numbers and tables for people.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

/// Digits in groups of three: `100 000`.
pub(super) struct Grouped(pub(super) u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index) % 3 == 0 {
                f.write_str(" ")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A number of things: `1 family`, `100 000 samples`.
pub(super) struct Counted(pub(super) u64, pub(super) Noun);

/// A noun in the singular and in the plural.
pub(super) type Noun = (&'static str, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, (one, many)) = *self;
        write!(f, "{} {}", Grouped(number), if number == 1 { one } else { many })
    }
}

/// Bytes with a decimal unit: `9.4 MB`.
pub(super) struct Size(pub(super) f64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bounds are below 1000, because 999.95 kB would round to `1000.0 kB`.
        match self.0 {
            bytes if (0.5..1.5).contains(&bytes) => f.write_str("1 byte"),
            bytes if bytes < 999.5 => write!(f, "{bytes:.0} bytes"),
            bytes if bytes < 999.95e3 => write!(f, "{:.1} kB", bytes / 1e3),
            bytes if bytes < 999.95e6 => write!(f, "{:.1} MB", bytes / 1e6),
            bytes => write!(f, "{:.1} GB", bytes / 1e9),
        }
    }
}

/// Bytes per second: `188.2 MB/s`.
pub(super) struct Rate(pub(super) u64, pub(super) Duration);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes, time) = *self;
        write!(f, "{}/s", Size(bytes as f64 / time.as_secs_f64().max(1e-6)))
    }
}

/// A duration: `3.1 ms`, `1.25 s`.
#[derive(Debug)]
pub(super) struct Length(pub(super) Duration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 0.999_95 {
            write!(f, "{:.1} ms", seconds * 1e3)
        } else {
            write!(f, "{seconds:.2} s")
        }
    }
}

/// Prints a table. Each column is as wide as its widest cell; lines have no trailing blanks.
pub(super) fn table<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in &rows {
        let line: String =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}  ")).collect();
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_have_units() {
        assert_eq!(Grouped(0).to_string(), "0");
        assert_eq!(Grouped(999).to_string(), "999");
        assert_eq!(Grouped(1_234_567).to_string(), "1 234 567");
        assert_eq!(Size(46.0).to_string(), "46 bytes");
        assert_eq!(Size(999_950.0).to_string(), "1.0 MB");
        assert_eq!(Size(2.5e9).to_string(), "2.5 GB");
        assert_eq!(Length(Duration::from_micros(999_960)).to_string(), "1.00 s");
        assert_eq!(Length(Duration::from_micros(420)).to_string(), "0.4 ms");
    }
}
