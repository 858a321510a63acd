//! The keys `compression` and `compression-algorithms` of an exporter.

use super::{
    section_reader::{Reported, SectionReader},
    values::{self, Parsed, shown},
};
use crate::common::compression::{CompressFor, CompressionRules, ContentCoding};

const WHEN: &[(&str, CompressFor)] = &[
    (CompressFor::Nobody.name(), CompressFor::Nobody),
    (CompressFor::All.name(), CompressFor::All),
    (CompressFor::FarAway.name(), CompressFor::FarAway),
];

const ALGORITHMS: &[(&str, ContentCoding)] = &[
    (ContentCoding::Zstd.name(), ContentCoding::Zstd),
    (ContentCoding::Gzip.name(), ContentCoding::Gzip),
];

pub(super) fn read(reader: &mut SectionReader<'_>) -> Result<CompressionRules, Reported> {
    let compress_for = reader.read_or("compression", values::one_of(WHEN), "auto");
    let algorithms = reader.read_or("compression-algorithms", algorithms, "zstd, gzip");
    Ok(CompressionRules { compress_for: compress_for?, algorithms: algorithms? })
}

/// Names of algorithms, separated by commas. Each at most once.
fn algorithms(value: &str) -> Parsed<Vec<ContentCoding>> {
    let mut all = Vec::new();
    for name in value.split(',').map(str::trim) {
        let algorithm = values::one_of(ALGORITHMS)(name)?;
        if all.contains(&algorithm) {
            return Err(format!("{} is listed twice", shown(name)));
        }
        all.push(algorithm);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_a_list_in_the_order_of_preference() {
        use ContentCoding::{Gzip, Zstd};
        assert_eq!(algorithms("zstd, gzip"), Ok(vec![Zstd, Gzip]));
        assert_eq!(algorithms("gzip,zstd"), Ok(vec![Gzip, Zstd]));
        assert_eq!(algorithms("gzip"), Ok(vec![Gzip]));
        for (value, message) in [
            ("zstd, zstd", "`zstd` is listed twice"),
            ("br", "`br` is not valid; expected `zstd` or `gzip`"),
            ("zstd,", "`` is not valid; expected `zstd` or `gzip`"),
            ("zstd gzip", "`zstd gzip` is not valid; expected `zstd` or `gzip`"),
        ] {
            assert_eq!(algorithms(value), Err(message.to_owned()), "{value}");
        }
    }
}
