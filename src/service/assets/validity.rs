//! The validity of certificates and revocation lists.

use std::path::PathBuf;

use time::{Duration, OffsetDateTime};

/// How long before its expiry a certificate gets a warning.
pub(super) const EXPIRES_SOON: Duration = Duration::days(14);

/// How long before its `nextUpdate` a revocation list gets a warning. Many CAs issue a new list
/// each day.
const OUT_OF_DATE_SOON: Duration = Duration::hours(6);

/// A file with certificates or revocation lists, and how long they are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFile {
    /// The file.
    pub path: PathBuf,
    /// What the file is for, as messages name it, such as `server`.
    pub role: &'static str,
    /// When the last of its certificates becomes valid. 1970 for revocation lists.
    pub begins: OffsetDateTime,
    /// When the first of its certificates expires, or the first of its lists is out of date.
    pub expires: OffsetDateTime,
}

/// The role of files with revocation lists.
pub(super) const LISTS: &str = "clients' CRL";

impl CertificateFile {
    /// The warning for the operator, if the file is expired, not valid yet, or about to expire at
    /// `now`.
    #[must_use]
    pub fn complaint(&self, now: OffsetDateTime) -> Option<String> {
        let Self { role, begins, expires, .. } = self;
        let is_list = *role == LISTS;
        let soon = if is_list { OUT_OF_DATE_SOON } else { EXPIRES_SOON };
        let begins = begins.date();
        let date = expires.date();
        if now < self.begins {
            Some(format!("the {role} certificate is not valid before {begins}"))
        } else if now > *expires {
            Some(if is_list {
                format!("the {role} expired on {date}: clients of its CA are refused")
            } else {
                format!("the {role} certificate expired on {date}")
            })
        } else if now + soon > *expires {
            Some(if is_list {
                let (hour, minute, second) = expires.to_hms();
                format!("the {role} expires on {date} at {hour:02}:{minute:02}:{second:02} UTC")
            } else {
                format!("the {role} certificate expires on {date}")
            })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f14_a_file_gets_a_warning_before_and_after_its_validity_and_shortly_before_its_end() {
        let day = |day: i64| OffsetDateTime::UNIX_EPOCH + Duration::days(day);
        let file =
            |role| CertificateFile { path: "/f".into(), role, begins: day(100), expires: day(200) };
        let says = |role, at| file(role).complaint(at);
        for (at, words) in [
            (day(99), Some("the server certificate is not valid before 1970-04-11")),
            (day(101), None),
            (day(185), None),
            (day(187), Some("the server certificate expires on 1970-07-20")),
            (day(201), Some("the server certificate expired on 1970-07-20")),
        ] {
            assert_eq!(says("server", at).as_deref(), words, "{at}");
        }
        assert_eq!(says(LISTS, day(199)), None);
        let soon = says(LISTS, day(200) - Duration::hours(5)).expect("a word");
        assert_eq!(soon, "the clients' CRL expires on 1970-07-20 at 00:00:00 UTC");
        let past = says(LISTS, day(201)).expect("a word");
        assert!(
            past.starts_with(
                "the clients' CRL expired on 1970-07-20: clients of its CA are refused"
            ),
            "{past}"
        );
    }
}
