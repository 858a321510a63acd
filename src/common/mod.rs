//! What all other rooms share: domain types, errors, and small tools.
//!
//! | file | what it has |
//! |---|---|
//! | [`exporter`] | an exporter: its name, where it listens, how it is scraped |
//! | [`compression`] | when answers of an exporter are compressed, and how |
//! | [`deadline`] | the time that a scrape has, and Prometheus' timeout header |
//! | [`families`] | which metric families of an exporter are passed on |
//! | [`peer`] | the identity of a client |
//! | [`error`] | all errors before and after a response head, one row for each |
//! | [`reload`] | requests for a reload, and whether the last one succeeded |
//! | [`shutdown`] | the phases of the shutdown |
//! | [`mod@file`] | reads files for a configuration, writes files atomically, checks permissions |
//! | [`blocking`] | runs blocking work, such as reading a file, on threads of its own |
//! | [`fair`] | a semaphore that shares its permits fairly between addresses |
//! | [`detach`] | frees a large buffer that only a few bytes keep allocated |

pub mod blocking;
pub mod compression;
pub mod deadline;
pub mod detach;
pub mod error;
pub mod exporter;
pub mod fair;
pub mod families;
pub mod file;
pub mod peer;
pub mod reload;
pub mod shutdown;
