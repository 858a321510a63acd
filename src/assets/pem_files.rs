//! PEM files and secrets, with a finding for each that is wrong.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use crate::{
    config::{BasicAuth, Findings, Password, Sourced},
    file::{self, Files},
    pem::{self, Contents, Place, Purpose, Remark},
    tls::judge::{self, Verdict},
};

/// Certificates with where they are in their file.
pub(super) type Certificates = Vec<(Place, CertificateDer<'static>)>;

/// What else is read, and for what: one file may be named for several purposes.
pub(super) type Beside<'a> = &'a [(Purpose, &'a Path)];

/// Largest key or secret, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A bundle of 10 000 certificates is about 20 MB.
const MAX_BUNDLE: u64 = 64 * MAX_FILE;

/// Highest cost of a bcrypt hash without a remark. Cost 12 takes about 0.25 s of CPU, and each step
/// doubles that: 15 takes 2 s, 16 takes 4 s, and Prometheus waits 10 s unless told otherwise.
const MAX_COST: u32 = 15;

/// Reads files and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) findings: Findings,
    files: &'a mut Files,
}

impl<'a> Reader<'a> {
    pub(super) fn new(files: &'a mut Files) -> Self {
        Self { findings: Findings::default(), files }
    }

    /// Whether nothing has the file's name; that it appears is a change then.
    pub(super) fn is_missing(&mut self, file: &Sourced<PathBuf>) -> bool {
        matches!(self.files.read(&file.value, MAX_BUNDLE), Err(file::ReadError::Missing))
    }

    fn read(&mut self, file: &Sourced<PathBuf>, limit: u64) -> Option<Vec<u8>> {
        match self.files.read(&file.value, limit) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.findings.push(file.error(format!("{}: {error}", file.value.display())));
                None
            }
        }
    }

    /// All certificates of a file: at least one, and none that cannot be read.
    ///
    /// A block that is not for this `purpose` is not reported if `beside` says that the same file is
    /// read for the block's own purpose too.
    pub(super) fn certificates(
        &mut self,
        file: &Sourced<PathBuf>,
        purpose: Purpose,
        beside: Beside<'_>,
    ) -> Option<Certificates> {
        let contents = self.pem(file, MAX_BUNDLE, purpose, beside)?;
        Some(contents.used.into_iter().map(|(place, der)| (place, der.into())).collect())
    }

    /// Reports what was judged about a file; says whether it can be used.
    pub(super) fn verdicts(&mut self, file: &Sourced<PathBuf>, verdicts: Vec<Verdict>) -> bool {
        let path = file.value.display();
        let mut is_usable = true;
        for verdict in verdicts {
            let finding = match verdict {
                Verdict::Error(text) => {
                    is_usable = false;
                    file.error(format!("{path}: {text}"))
                }
                Verdict::Warning(text) => file.warning(format!("{path}: {text}")),
            };
            self.findings.push(finding);
        }
        is_usable
    }

    /// All CRLs of a file. One past its `nextUpdate` is warned about if it is its CA's newest: it
    /// refuses every client of that CA.
    pub(super) fn revocation_lists(
        &mut self,
        file: &Sourced<PathBuf>,
        beside: Beside<'_>,
        now: OffsetDateTime,
    ) -> Option<Vec<(Place, Vec<u8>)>> {
        let contents = self.pem(file, MAX_BUNDLE, Purpose::RevocationLists, beside)?;
        let expired = judge::expired_lists(&contents.used, now);
        self.verdicts(file, expired);
        Some(contents.used)
    }

    /// The one private key of a file that the world may not read.
    pub(super) fn key(
        &mut self,
        file: &Sourced<PathBuf>,
        beside: Beside<'_>,
    ) -> Option<PrivateKeyDer<'static>> {
        let contents = self.pem(file, MAX_FILE, Purpose::Key, beside)?;
        let usable = contents.into_key().and_then(|key| match judge::key(&key) {
            None => Ok(key),
            Some(problem) => Err(problem),
        });
        usable
            .map_err(|problem| {
                self.findings.push(file.error(format!("{}: {problem}", file.value.display())));
            })
            .ok()
    }

    /// What a PEM file holds, if nothing is wrong with it.
    fn pem(
        &mut self,
        file: &Sourced<PathBuf>,
        limit: u64,
        purpose: Purpose,
        beside: Beside<'_>,
    ) -> Option<Contents> {
        let bytes = self.text(file, limit)?;
        let contents = pem::read(&bytes, purpose);
        if contents.holds_key || purpose == Purpose::Key {
            self.not_for_the_world(file);
        }
        let path = file.value.display();
        let is_used_elsewhere = |remark: &Remark| {
            remark.belongs_to.is_some_and(|purpose| beside.contains(&(purpose, &*file.value)))
        };
        for remark in contents.remarks.iter().filter(|remark| !is_used_elsewhere(remark)) {
            // About the file as a whole, or about one of its blocks.
            let colon = if remark.text.starts_with("contains") { "" } else { ":" };
            let text = format!("{path}{colon} {}", remark.text);
            let finding = if remark.is_error { file.error(text) } else { file.warning(text) };
            self.findings.push(finding);
        }
        let is_sound =
            contents.remarks.iter().all(|remark| !remark.is_error || is_used_elsewhere(remark));
        (is_sound && !contents.used.is_empty()).then_some(contents)
    }

    /// A password or token: the file's text without a byte-order mark, line ends and blanks around it,
    /// as Prometheus reads its own.
    pub(super) fn secret(&mut self, file: &Sourced<PathBuf>) -> Option<String> {
        let bytes = self.text(file, MAX_FILE)?;
        self.not_for_the_world(file);
        let path = file.value.display();
        let Ok(text) = String::from_utf8(bytes) else {
            self.findings.push(file.error(format!("{path} is not UTF-8")));
            return None;
        };
        let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
        let secret = text.trim();
        if secret.is_empty() {
            self.findings.push(file.error(format!("{path} is empty")));
            return None;
        }
        if secret != text {
            self.findings.push(file.warning(format!(
                "{path} has whitespace around the secret, which is ignored: remove it"
            )));
        }
        Some(secret.to_owned())
    }

    /// `auth`, whose secret is in `config.ini` itself.
    ///
    /// A hash is a lesser secret: only a weak password can be guessed from it. And the agent installs
    /// its file readable for everyone, so that is a warning.
    pub(super) fn basic_auth(&mut self, auth: &Sourced<BasicAuth>) {
        let path = &*auth.origin.file;
        let open = file::open_to_everyone(path);
        let problem = open.map(|open| open.problem_of(path)).unwrap_or_default();
        let is_readable = open.is_some_and(file::Open::is_readable);
        match &auth.value.password {
            _ if open.is_none() => {}
            Password::Plain(_) if is_readable => self.findings.push(auth.error(format!(
                "the password is in plain text, and {problem}, or replace the password with a bcrypt \
                 hash"
            ))),
            Password::Plain(_) => self.findings.push(auth.error(problem)),
            Password::Bcrypt(_) if is_readable => {
                self.findings.push(auth.warning(format!(
                    "a weak password can be guessed from its hash, and {problem}"
                )))
            }
            Password::Bcrypt(_) => self.findings.push(auth.warning(problem)),
        }
        self.not_in_an_open_folder(auth, path);
        if let Password::Bcrypt(hash) = &auth.value.password {
            let cost = hash.split('$').nth(2).and_then(|cost| cost.parse::<u32>().ok());
            if let Some(cost) = cost.filter(|cost| *cost > MAX_COST) {
                self.findings.push(auth.warning(format!(
                    "checking a password against a bcrypt hash of cost {cost} takes longer than a \
                     scrape may take: create the hash with a cost of 10 to 12"
                )));
            }
        }
    }

    /// The bytes of a file that is not UTF-16.
    fn text(&mut self, file: &Sourced<PathBuf>, limit: u64) -> Option<Vec<u8>> {
        let bytes = self.read(file, limit)?;
        if file::is_utf16(&bytes) {
            let path = file.value.display();
            self.findings.push(file.error(format!("{path} is UTF-16 text; save it as UTF-8")));
            return None;
        }
        Some(bytes)
    }

    /// Neither it nor, by way of its folder, what takes its place.
    fn not_for_the_world(&mut self, file: &Sourced<PathBuf>) {
        self.not_in_an_open_folder(file, &file.value);
        if let Some(open) = file::open_to_everyone(&file.value) {
            self.findings.push(file.error(open.problem_of(&file.value)));
        }
    }

    fn not_in_an_open_folder<T>(&mut self, named_at: &Sourced<T>, path: &Path) {
        if let Some(folder) = file::folder_open_to_everyone(path) {
            self.findings.push(named_at.warning(format!(
                "everyone can replace {}: chmod o-w {}",
                path.display(),
                folder.display()
            )));
        }
    }
}
