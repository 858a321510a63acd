//! Who sent an answer that came through a proxy.

use std::fmt;

use hyper::{
    Response, StatusCode,
    ext::ReasonPhrase,
    header::{SERVER, WWW_AUTHENTICATE},
};

use crate::http::respond::SERVER_NAME;

/// Who chose the status of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answerer {
    /// The proxy itself.
    Proxy,
    /// The exporter. The proxy forwarded its status.
    Exporter,
    /// Another server, by its `Server` header. The proxy never forwards that header.
    Other(String),
}

impl Answerer {
    pub(super) fn of<B>(response: &Response<B>) -> Self {
        let headers = response.headers();
        if let Some(server) = headers.get(SERVER) {
            if server == SERVER_NAME {
                return Self::Proxy;
            }
            let name = String::from_utf8_lossy(server.as_bytes());
            return Self::Other(name.escape_debug().to_string());
        }
        // scrapegate 0.1 sends no `Server` header. It sends its own reason phrases and challenges,
        // and does not forward those of an exporter. hyper itself answers a head that it cannot
        // read.
        let has_own_reason = response.extensions().get::<ReasonPhrase>().is_some();
        let is_from_hyper = response.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        if headers.contains_key(WWW_AUTHENTICATE) || has_own_reason || is_from_hyper {
            Self::Proxy
        } else {
            Self::Exporter
        }
    }
}

impl fmt::Display for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy => f.write_str("the proxy answered"),
            Self::Exporter => f.write_str("the exporter answered"),
            Self::Other(name) => write!(f, "`{name}` answered"),
        }
    }
}
