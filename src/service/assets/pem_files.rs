//! Reads PEM files and secrets, and adds a diagnostic for each problem.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use crate::{
    common::file::{self, FileSet},
    config::{BasicAuth, Diagnostics, Located, Password},
    tls::{
        inspect::{self, CertificateProblem},
        pem::{self, BlockPlace, Contents, Purpose, Remark},
    },
};

/// Certificates, each with its place in the file.
pub(super) type Certificates = Vec<(BlockPlace, CertificateDer<'static>)>;

/// The certificates without their places.
pub(super) fn ders(placed: &Certificates) -> Vec<CertificateDer<'static>> {
    placed.iter().map(|(_, der)| der.clone()).collect()
}

/// Files with the purposes for which they are read. One file may have several purposes.
pub(super) type FileUses<'a> = &'a [(Purpose, &'a Path)];

/// Largest key or secret, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Largest bundle of certificates or CRLs, in bytes. 10 000 certificates are about 20 MB.
const MAX_BUNDLE: u64 = 64 * MAX_FILE;

/// Highest cost of a bcrypt hash that gets no warning. Cost 12 takes about 0.25 s of CPU time, and
/// each step doubles that: 15 takes 2 s, 16 takes 4 s. Prometheus waits 10 s by default.
const MAX_COST: u32 = 15;

/// Reads files and collects diagnostics.
pub(super) struct FileReader<'a> {
    pub(super) diagnostics: Diagnostics,
    files: &'a mut FileSet,
}

impl<'a> FileReader<'a> {
    pub(super) fn new(files: &'a mut FileSet) -> Self {
        Self { diagnostics: Diagnostics::default(), files }
    }

    /// Whether the file does not exist. The answer is kept, so that the file's appearance counts as
    /// a change.
    pub(super) fn is_missing(&mut self, file: &Located<PathBuf>) -> bool {
        matches!(self.files.read(&file.value, MAX_BUNDLE), Err(file::ReadError::Missing))
    }

    fn read(&mut self, file: &Located<PathBuf>, limit: u64) -> Option<Vec<u8>> {
        match self.files.read(&file.value, limit) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.diagnostics.push(file.error(format!("{}: {error}", file.value.display())));
                None
            }
        }
    }

    /// All certificates of a file. `None` if the file has no certificate or has errors.
    ///
    /// A block that is not for this `purpose` is not reported if `uses` says that the same file is
    /// also read for the block's own purpose.
    pub(super) fn certificates(
        &mut self,
        file: &Located<PathBuf>,
        purpose: Purpose,
        uses: FileUses<'_>,
    ) -> Option<Certificates> {
        let contents = self.pem(file, MAX_BUNDLE, purpose, uses)?;
        Some(contents.used.into_iter().map(|(place, der)| (place, der.into())).collect())
    }

    /// Adds the problems of a file to the diagnostics. Returns whether the file can be used.
    pub(super) fn problems(
        &mut self,
        file: &Located<PathBuf>,
        problems: Vec<CertificateProblem>,
    ) -> bool {
        let path = file.value.display();
        let mut is_usable = true;
        for problem in problems {
            let diagnostic = match problem {
                CertificateProblem::Error(text) => {
                    is_usable = false;
                    file.error(format!("{path}: {text}"))
                }
                CertificateProblem::Warning(text) => file.warning(format!("{path}: {text}")),
            };
            self.diagnostics.push(diagnostic);
        }
        is_usable
    }

    /// All CRLs of a file. If a CA's newest CRL is past its `nextUpdate`, that is a warning,
    /// because every client of that CA is refused.
    pub(super) fn revocation_lists(
        &mut self,
        file: &Located<PathBuf>,
        uses: FileUses<'_>,
        now: OffsetDateTime,
    ) -> Option<Vec<(BlockPlace, Vec<u8>)>> {
        let contents = self.pem(file, MAX_BUNDLE, Purpose::RevocationLists, uses)?;
        let expired = inspect::expired_lists(&contents.used, now);
        self.problems(file, expired);
        Some(contents.used)
    }

    /// The private key of a file. It is an error if the file has several keys, or if everyone can
    /// read the file.
    pub(super) fn key(
        &mut self,
        file: &Located<PathBuf>,
        uses: FileUses<'_>,
    ) -> Option<PrivateKeyDer<'static>> {
        let contents = self.pem(file, MAX_FILE, Purpose::Key, uses)?;
        let usable = contents.into_key().and_then(|key| match inspect::key(&key) {
            None => Ok(key),
            Some(problem) => Err(problem),
        });
        usable
            .map_err(|problem| {
                self.diagnostics.push(file.error(format!("{}: {problem}", file.value.display())));
            })
            .ok()
    }

    /// The contents of a PEM file, unless the file has errors.
    fn pem(
        &mut self,
        file: &Located<PathBuf>,
        limit: u64,
        purpose: Purpose,
        uses: FileUses<'_>,
    ) -> Option<Contents> {
        let bytes = self.text(file, limit)?;
        let contents = pem::read(&bytes, purpose);
        if contents.holds_key || purpose == Purpose::Key {
            self.require_private(file);
        }
        let path = file.value.display();
        let is_used_elsewhere = |remark: &Remark| {
            remark.belongs_to.is_some_and(|purpose| uses.contains(&(purpose, &*file.value)))
        };
        for remark in contents.remarks.iter().filter(|remark| !is_used_elsewhere(remark)) {
            // A remark about the whole file continues the sentence. A remark about a block follows
            // a colon.
            let colon = if remark.text.starts_with("contains") { "" } else { ":" };
            let text = format!("{path}{colon} {}", remark.text);
            let diagnostic = if remark.is_error { file.error(text) } else { file.warning(text) };
            self.diagnostics.push(diagnostic);
        }
        let is_sound =
            contents.remarks.iter().all(|remark| !remark.is_error || is_used_elsewhere(remark));
        (is_sound && !contents.used.is_empty()).then_some(contents)
    }

    /// A password or token: the file's text without byte-order mark and surrounding whitespace, as
    /// Prometheus reads its password files.
    pub(super) fn secret(&mut self, file: &Located<PathBuf>) -> Option<String> {
        let bytes = self.text(file, MAX_FILE)?;
        self.require_private(file);
        let path = file.value.display();
        let Ok(text) = String::from_utf8(bytes) else {
            self.diagnostics.push(file.error(format!("{path} is not UTF-8")));
            return None;
        };
        let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
        let secret = text.trim();
        if secret.is_empty() {
            self.diagnostics.push(file.error(format!("{path} is empty")));
            return None;
        }
        if secret != text {
            self.diagnostics.push(file.warning(format!(
                "{path} has whitespace around the secret, which is ignored: remove it"
            )));
        }
        Some(secret.to_owned())
    }

    /// Checks `auth`, whose secret is in `config.ini` itself.
    ///
    /// If everyone can read the file, a password in plain text is an error. A bcrypt hash is only a
    /// warning: only weak passwords can be guessed from it, and the agent installs its `config.ini`
    /// readable for everyone.
    pub(super) fn basic_auth(&mut self, auth: &Located<BasicAuth>) {
        let path = &*auth.location.file;
        let open = file::open_to_everyone(path);
        let problem = open.map(|open| open.problem_of(path)).unwrap_or_default();
        let is_readable = open.is_some_and(file::Open::is_readable);
        match &auth.value.password {
            _ if open.is_none() => {}
            Password::Plain(_) if is_readable => self.diagnostics.push(auth.error(format!(
                "the password is in plain text, and {problem}, or replace the password with a bcrypt \
                 hash"
            ))),
            Password::Plain(_) => self.diagnostics.push(auth.error(problem)),
            Password::Bcrypt(_) if is_readable => {
                self.diagnostics.push(auth.warning(format!(
                    "a weak password can be guessed from its hash, and {problem}"
                )))
            }
            Password::Bcrypt(_) => self.diagnostics.push(auth.warning(problem)),
        }
        self.warn_of_open_folder(auth, path);
        if let Password::Bcrypt(hash) = &auth.value.password {
            let cost = hash.split('$').nth(2).and_then(|cost| cost.parse::<u32>().ok());
            if let Some(cost) = cost.filter(|cost| *cost > MAX_COST) {
                self.diagnostics.push(auth.warning(format!(
                    "checking a password against a bcrypt hash of cost {cost} takes longer than a \
                     scrape may take: create the hash with a cost of 10 to 12"
                )));
            }
        }
    }

    /// The bytes of a text file. UTF-16 is an error.
    fn text(&mut self, file: &Located<PathBuf>, limit: u64) -> Option<Vec<u8>> {
        let bytes = self.read(file, limit)?;
        if file::is_utf16(&bytes) {
            let path = file.value.display();
            self.diagnostics.push(file.error(format!("{path} is UTF-16 text; save it as UTF-8")));
            return None;
        }
        Some(bytes)
    }

    /// Reports a secret that everyone can read, write, or replace through its folder.
    fn require_private(&mut self, file: &Located<PathBuf>) {
        self.warn_of_open_folder(file, &file.value);
        if let Some(open) = file::open_to_everyone(&file.value) {
            self.diagnostics.push(file.error(open.problem_of(&file.value)));
        }
    }

    fn warn_of_open_folder<T>(&mut self, named_at: &Located<T>, path: &Path) {
        if let Some(folder) = file::folder_open_to_everyone(path) {
            self.diagnostics.push(named_at.warning(format!(
                "everyone can replace {}: chmod o-w {}",
                path.display(),
                folder.display()
            )));
        }
    }
}
