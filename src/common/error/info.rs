//! What an error means to others: the response, the words for logs and counters, and the blame.

use hyper::StatusCode;

/// Who caused an error, and so where an operator looks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The scraper.
    Downstream,
    /// The exporter.
    Upstream,
    /// scrapegate itself, its configuration or its host.
    Proxy,
}

impl Blame {
    /// The value of the log field `blame`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Downstream => "scraper",
            Self::Upstream => "exporter",
            Self::Proxy => "proxy",
        }
    }
}

/// What happens to the connection after a response of the proxy itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionAfter {
    /// The connection stays open for the next request.
    Keep,
    /// The response says `Connection: close`, and the connection is closed.
    Close,
}

/// What an error can be counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A request. The error can happen before the exporter of the request is known. Its label is a
    /// value of `reason` in `scrapegate_http_rejected_total`, from the start.
    Request,
    /// Only a scrape. Its label is a value of `outcome` in `scrapegate_scrapes_total`, from the
    /// first scrape that ends with it.
    Scrape,
}

/// The row of an error before the response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorInfo {
    /// The status code of the response.
    pub status: StatusCode,
    /// The reason phrase, in constant words. Prometheus shows it on its targets page.
    pub reason: &'static str,
    /// The label in logs and counters: one constant word.
    pub label: &'static str,
    /// Who caused the error.
    pub blame: Blame,
    /// What happens to the connection.
    pub connection: ConnectionAfter,
    /// What the error can be counted as.
    pub scope: Scope,
}

impl ErrorInfo {
    /// The row of an error that can happen before the exporter of the request is known, and that
    /// keeps the connection open.
    pub(super) const fn new(
        status: StatusCode,
        reason: &'static str,
        label: &'static str,
        blame: Blame,
    ) -> Self {
        let (connection, scope) = (ConnectionAfter::Keep, Scope::Request);
        Self { status, reason, label, blame, connection, scope }
    }

    /// The row of an error because the system has no descriptor, thread or memory.
    pub(super) const fn no_resources(label: &'static str) -> Self {
        let reason = "proxy is out of file descriptors, threads or memory";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, label, Blame::Proxy)
    }

    /// The same row for an error that closes the connection.
    pub(super) const fn and_close(self) -> Self {
        Self { connection: ConnectionAfter::Close, ..self }
    }

    /// The same row for an error that happens only to scrapes.
    pub(super) const fn of_scrapes(self) -> Self {
        Self { scope: Scope::Scrape, ..self }
    }
}

/// The row of an error after the response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortInfo {
    /// The label in logs and counters: one constant word.
    pub label: &'static str,
    /// Who caused the abort.
    pub blame: Blame,
}

/// Makes two functions of the rows of an error type: `info` matches a variant with its row, and
/// `infos` lists all rows in their order. A variant without a row does not compile.
///
/// A variant in `nested` contains another error type, which has rows of its own.
macro_rules! rows {
    (
        $Error:ident => $Info:ident { $($variant:pat => $row:expr,)+ }
        $(nested { $($Variant:ident($Inner:ident),)+ })?
    ) => {
        impl $Error {
            /// The row of this error.
            #[must_use]
            pub fn info(&self) -> $Info {
                match self {
                    $($variant => $row,)+
                    $($(Self::$Variant(error) => error.info(),)+)?
                }
            }

            /// The rows of all errors of this type, in the order of their variants.
            pub fn infos() -> impl Iterator<Item = $Info> {
                [$($row),+].into_iter()$($(.chain($Inner::infos()))+)?
            }
        }
    };
}

pub(super) use rows;
