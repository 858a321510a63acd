//! `scrapegate certs`: creates a CA, a server certificate and a client certificate, for hosts
//! without a PKI.

use std::{
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::exit;
use crate::{
    common::file::{Existing, FileAccess, Staged},
    tls::pki::{self, Authority, Validity},
};

/// File name of the CA's certificate, in the folder that `certs` or `demo` writes.
pub(super) const CA_CERTIFICATE: &str = "ca.crt";
/// File name of the server's certificate.
pub(super) const SERVER_CERTIFICATE: &str = "server.crt";
/// File name of the server's key.
pub(super) const SERVER_KEY: &str = "server.key";
/// File name of the client's certificate.
pub(super) const CLIENT_CERTIFICATE: &str = "client.crt";
/// File name of the client's key.
pub(super) const CLIENT_KEY: &str = "client.key";
const CA_KEY: &str = "ca.key";

/// Arguments of `certs`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Folder for ca.crt, ca.key, server.crt, server.key, client.crt and client.key; created with
    /// mode 0700 if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Host names and IP addresses of the proxy, for the server certificate. Include each name that
    /// scrapers use
    #[arg(long = "host", value_name = "NAME", required = true, num_args = 1..)]
    hosts: Vec<String>,
    /// Replace existing files. Clients and servers with the old certificates must get new ones
    #[arg(long)]
    force: bool,
}

/// Why `scrapegate certs` wrote no certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}: {}; use --force to replace all six files", folder.display(), Exist(names))]
    Exists { folder: PathBuf, names: Vec<&'static str> },
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl Error {
    /// 2 for an error on the command line, 70 for an internal error, 71 if standard output fails,
    /// 1 if files exist or cannot be written.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Exists { .. } | Self::Write { .. } => exit::FAILURE,
            Self::Output(_) => exit::SYSTEM,
            Self::Pki(pki::Error::NoHost | pki::Error::BadHosts(_)) => exit::USAGE,
            Self::Pki(pki::Error::Generate(_)) => exit::INTERNAL,
        }
    }
}

/// `ca.crt already exists`, `ca.crt and ca.key already exist`, `a, b and c already exist`.
struct Exist<'a>(&'a [&'static str]);

impl fmt::Display for Exist<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [only] => write!(f, "{only} already exists"),
            [most @ .., last] => write!(f, "{} and {last} already exist", most.join(", ")),
        }
    }
}

/// Generates and writes the six files, then prints how to use them.
///
/// # Errors
/// If one of the six files exists and `--force` is not given, if a host is invalid, or if a file
/// cannot be written. In each case no file is written.
pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Error> {
    let authority = Authority::generate("scrapegate CA", Validity::Permanent)?;
    let server = authority.server_pair(&args.hosts)?;
    let client = authority.client_pair("scrapegate client")?;
    let ca = authority.pair();
    let files = [
        (CA_CERTIFICATE, &ca.certificate_pem, FileAccess::Public),
        (CA_KEY, &ca.key_pem, FileAccess::Private),
        (SERVER_CERTIFICATE, &server.certificate_pem, FileAccess::Public),
        (SERVER_KEY, &server.key_pem, FileAccess::Private),
        (CLIENT_CERTIFICATE, &client.certificate_pem, FileAccess::Public),
        (CLIENT_KEY, &client.key_pem, FileAccess::Private),
    ];
    let existing = if args.force {
        Existing::Replace
    } else {
        refuse_existing(&args.out, files.map(|(name, ..)| name))?;
        Existing::Keep
    };
    create_folder(&args.out).map_err(|source| Error::Write { path: args.out.clone(), source })?;
    write_all(&args.out, &files, existing)?;
    let folder = std::path::absolute(&args.out).unwrap_or_else(|_| args.out.clone());
    print_next_steps(out, &folder, &args.hosts)?;
    Ok(())
}

fn refuse_existing(folder: &Path, names: [&'static str; 6]) -> Result<(), Error> {
    // Also refuse a dangling symbolic link.
    let names: Vec<_> =
        names.into_iter().filter(|name| folder.join(name).symlink_metadata().is_ok()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::Exists { folder: folder.to_owned(), names })
}

fn create_folder(folder: &Path) -> io::Result<()> {
    // The parents get default permissions. Only this folder holds keys.
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Writes all files under temporary names before it renames the first one. A full disk or a missing
/// permission therefore leaves no partial set.
fn write_all(
    folder: &Path,
    files: &[(&str, &String, FileAccess)],
    existing: Existing,
) -> Result<(), Error> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    let mut staged = Vec::with_capacity(files.len());
    for &(name, contents, access) in files {
        let path = folder.join(name);
        let file = Staged::new(&path, contents.as_bytes(), access).map_err(at(&path))?;
        staged.push((path, file));
    }
    for (path, file) in staged {
        file.commit(existing).map_err(at(&path))?;
    }
    Ok(())
}

fn print_next_steps(out: &mut dyn Write, folder: &Path, hosts: &[String]) -> io::Result<()> {
    let hosts_list = hosts.join(", ");
    let host = hosts.first().map_or("localhost", String::as_str);
    let authority = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let at = |name: &str| folder.join(name).display().to_string();
    write!(
        out,
        "\
Wrote to {folder}:

  ca.crt      ca.key      the CA, valid for 10 years; move ca.key off this host
  server.crt  server.key  for the proxy at {hosts_list}; valid for 825 days
  client.crt  client.key  for the scraper; valid for 825 days

Add to config.ini:

  [default]
  certfile = {server_certificate}
  keyfile = {server_key}

  [proxy]
  client-ca = {ca}

When the proxy is running, list its exporters:

  {curl}
",
        folder = folder.display(),
        server_certificate = at(SERVER_CERTIFICATE),
        server_key = at(SERVER_KEY),
        ca = at(CA_CERTIFICATE),
        curl = Curl::new(folder).get(&format!("https://{authority}:3333/prometheus")),
    )
}

/// `curl` commands with the certificates of a folder, ready to paste into a shell.
pub(super) struct Curl<'a> {
    folder: &'a Path,
}

impl<'a> Curl<'a> {
    /// `folder` has `ca.crt`, `client.crt` and `client.key`.
    pub(super) fn new(folder: &'a Path) -> Self {
        Self { folder }
    }

    /// A request with the client certificate.
    pub(super) fn get(&self, url: &str) -> String {
        format!(
            "curl --cacert {} --cert {} --key {} {}",
            self.quoted(CA_CERTIFICATE),
            self.quoted(CLIENT_CERTIFICATE),
            self.quoted(CLIENT_KEY),
            shell_quoted(url)
        )
    }

    /// A request without one.
    pub(super) fn get_anonymously(&self, url: &str) -> String {
        format!("curl --cacert {} {}", self.quoted(CA_CERTIFICATE), shell_quoted(url))
    }

    fn quoted(&self, name: &str) -> String {
        shell_quoted(&self.folder.join(name).to_string_lossy())
    }
}

/// `word` as one word for a POSIX shell, quoted only if necessary.
fn shell_quoted(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(harmless) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SIX: [&str; 6] =
        ["ca.crt", "ca.key", "client.crt", "client.key", "server.crt", "server.key"];

    fn args(out: &Path, force: bool) -> Args {
        Args {
            out: out.to_owned(),
            hosts: vec!["metrics.example.org".to_owned(), "::1".to_owned()],
            force,
        }
    }

    fn run_in(out: &Path, force: bool) -> Result<String, Error> {
        let mut output = Vec::new();
        run(&args(out, force), &mut output)?;
        Ok(String::from_utf8(output).expect("UTF-8"))
    }

    fn contents(folder: &Path) -> Vec<(String, String)> {
        let mut all: Vec<_> = fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry"))
            .map(|entry| {
                (
                    entry.file_name().to_string_lossy().into_owned(),
                    fs::read_to_string(entry.path()).expect("text"),
                )
            })
            .collect();
        all.sort();
        all
    }

    fn names(folder: &Path) -> Vec<String> {
        contents(folder).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn six_files_are_written_and_nothing_else() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = parent.path().join("new/tls");
        run_in(&folder, false).expect("written");
        assert_eq!(names(&folder), SIX);
    }

    #[test]
    #[cfg(unix)]
    fn keys_and_a_new_folder_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = parent.path().join("tls");
        for force in [false, true] {
            run_in(&folder, force).expect("written");
            assert_eq!(mode(&folder), 0o700);
            for key in ["ca.key", "server.key", "client.key"] {
                assert_eq!(mode(&folder.join(key)), 0o600, "{key}");
            }
        }
    }

    #[test]
    fn if_one_file_exists_no_file_is_written() {
        for name in SIX {
            let folder = tempfile::tempdir().expect("a temporary folder");
            fs::write(folder.path().join(name), "mine").expect("written");
            let refused = run_in(folder.path(), false).expect_err("it exists");
            assert_eq!(refused.exit_code(), 1);
            assert_eq!(
                refused.to_string(),
                format!(
                    "{}: {name} already exists; use --force to replace all six files",
                    folder.path().display()
                )
            );
            assert_eq!(contents(folder.path()), [(name.to_owned(), "mine".to_owned())]);
        }
    }

    #[test]
    fn all_existing_files_are_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        run_in(folder.path(), false).expect("written");
        let before = contents(folder.path());
        fs::remove_file(folder.path().join("client.crt")).expect("removed");
        fs::remove_file(folder.path().join("client.key")).expect("removed");
        let refused = run_in(folder.path(), false).expect_err("four exist");
        assert!(
            refused.to_string().contains("ca.crt, ca.key, server.crt and server.key already exist"),
            "{refused}"
        );
        for (name, kept) in contents(folder.path()) {
            assert!(before.contains(&(name, kept)));
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_dangling_link_is_not_overwritten() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::os::unix::fs::symlink("nowhere", folder.path().join("ca.key")).expect("a link");
        let refused = run_in(folder.path(), false).expect_err("the link exists");
        assert!(matches!(refused, Error::Exists { .. }), "{refused:?}");
    }

    #[test]
    fn force_replaces_all_six() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        run_in(folder.path(), false).expect("written");
        let before = contents(folder.path());
        run_in(folder.path(), true).expect("replaced");
        let after = contents(folder.path());
        assert_eq!(names(folder.path()), SIX);
        for (old, new) in before.iter().zip(&after) {
            assert_ne!(old, new);
        }
    }

    #[test]
    fn a_bad_host_is_a_mistake_on_the_command_line_and_creates_no_folder() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = parent.path().join("tls");
        let args = Args { hosts: vec!["two words".to_owned()], ..args(&folder, false) };
        let refused = run(&args, &mut Vec::new()).expect_err("no host name");
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("`two words`"), "{refused}");
        assert!(!folder.exists());
    }

    #[test]
    fn the_next_steps_have_absolute_paths() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = run_in(folder.path(), false).expect("written");
        let at = |name| folder.path().join(name).display().to_string();
        for line in [
            format!("  certfile = {}", at("server.crt")),
            format!("  keyfile = {}", at("server.key")),
            format!("  client-ca = {}", at("ca.crt")),
            format!(
                "  curl --cacert {} --cert {} --key {} https://metrics.example.org:3333/prometheus",
                at("ca.crt"),
                at("client.crt"),
                at("client.key")
            ),
        ] {
            assert!(output.lines().any(|printed| printed == line), "{line}\n{output}");
        }
    }

    #[test]
    fn words_are_quoted_for_the_shell_if_necessary() {
        for (word, quoted) in [
            ("/tmp/a-b_c.crt", "/tmp/a-b_c.crt"),
            ("", "''"),
            ("/tmp/my files/x", "'/tmp/my files/x'"),
            ("https://h/p?exporter=demo", "'https://h/p?exporter=demo'"),
            ("https://[::1]:3333/", "'https://[::1]:3333/'"),
            ("it's", r"'it'\''s'"),
            ("~/x", "'~/x'"),
        ] {
            assert_eq!(shell_quoted(word), quoted);
        }
    }
}
