//! The two INI files as types: text, then raw values with their line, then values that cannot be
//! wrong.
//!
//! All errors of both files are reported at once, each with file, line, section and key. The
//! configuration only names other files, such as certificates, keys and password files.
//! `service::assets` reads them, and reports their problems the same way.
//!
//! # How a value is made
//!
//! 1. `text` reads a file, `ini` and `line` split its text into sections of keys and values with
//!    their lines.
//! 2. `keys` has the list of all keys, and reports the unknown ones.
//! 3. Each group of `config.ini` has a file of its own: `listener`, `transport`, `access`,
//!    `limits`, `scrapes`, `pages`, `enrolment`, `reload` and `process`. `exporters` has the
//!    sections of the exporters file, and `family_keys` two keys of them. A group is a struct whose documentation has the key, the unit and the default
//!    of each field, and next to it the function that reads the keys with a `SectionReader`.
//! 4. `config_ini` makes a [`Config`] of the groups. [`load()`] reads both files, which
//!    [`Sources`] name.
//!
//! A new key needs a row in `keys`, and a field in its group with the line that reads it.

mod access;
mod basic_auth;
mod clients;
mod compression;
mod config_ini;
mod diagnostics;
mod endpoint;
mod enrolment;
mod exporters;
mod family_keys;
mod folders;
mod ini;
mod keys;
mod limits;
mod line;
mod listener;
mod load;
mod pages;
mod process;
mod reload;
mod scrapes;
mod section_reader;
mod sources;
mod text;
mod transport;
mod values;

pub use self::{
    access::AccessConfig,
    basic_auth::{BasicAuth, Password},
    clients::{AddressRange, ClientPattern},
    config_ini::Config,
    diagnostics::{Diagnostic, Diagnostics, Located, Location, Severity},
    endpoint::{Advertised, Scheme},
    enrolment::{EnrolmentConfig, KeyKind},
    exporters::{Credentials, ExporterConfig, UpstreamTlsConfig},
    folders::{agent_folder, own_folder},
    limits::Limits,
    listener::{ListenerConfig, TlsLevel},
    load::{exporters, exporters_in, load, survey},
    pages::PageConfig,
    process::{LogFormat, ProcessConfig},
    reload::ReloadConfig,
    scrapes::ScrapeConfig,
    sources::Sources,
    transport::{ClientAuth, EnrolmentFiles, TlsFiles, Transport},
};
