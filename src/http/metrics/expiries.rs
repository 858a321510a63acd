//! When the files of the configuration in use expire.

use std::{collections::BTreeMap, path::Path};

/// When the certificates and the revocation lists in use expire.
#[derive(Clone, Debug, Default)]
pub struct Expiries {
    /// For each certificate file, when its first certificate expires, in seconds since 1970 (UTC).
    pub certificates: BTreeMap<String, i64>,
    /// For each CRL file, when the first CRL in the file is out of date (nextUpdate), in seconds
    /// since 1970 (UTC).
    pub revocation_lists: BTreeMap<String, i64>,
}

impl Expiries {
    /// Keeps the earliest end of each file. Each certificate and CRL comes as its file and its end.
    pub(super) fn of<'a>(
        certificates: impl IntoIterator<Item = (&'a Path, i64)>,
        revocation_lists: impl IntoIterator<Item = (&'a Path, i64)>,
    ) -> Self {
        Self {
            certificates: first_ends(certificates),
            revocation_lists: first_ends(revocation_lists),
        }
    }
}

/// The earliest end for each file.
fn first_ends<'a>(all: impl IntoIterator<Item = (&'a Path, i64)>) -> BTreeMap<String, i64> {
    let mut by_file = BTreeMap::new();
    for (file, end) in all {
        let first = by_file.entry(file.display().to_string()).or_insert(end);
        *first = end.min(*first);
    }
    by_file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_expiry_of_a_file_counts() {
        let file = Path::new("/a.pem");
        let ends = [(file, 7), (file, 5), (Path::new("/b.pem"), 9)];
        let expiries = Expiries::of(ends, []);
        let expected = BTreeMap::from([("/a.pem".to_owned(), 5), ("/b.pem".to_owned(), 9)]);
        assert_eq!(expiries.certificates, expected);
        assert!(expiries.revocation_lists.is_empty());
    }
}
