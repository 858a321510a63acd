//! Whose answer it is that came through a proxy.

use std::fmt;

use hyper::{
    Response, StatusCode,
    ext::ReasonPhrase,
    header::{SERVER, WWW_AUTHENTICATE},
};

use crate::respond::SERVER_NAME;

/// Who chose the status of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answerer {
    /// The proxy itself.
    Proxy,
    /// The exporter; the proxy passed its status on.
    Exporter,
    /// A server of another name: nothing that comes through the proxy has a `Server`.
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
        // A proxy of version 0.1 does not say who it is. An exporter's answer has neither of these
        // signs, as it passes on neither the challenge nor the reason. hyper answers by itself what
        // it cannot read.
        let has_own_reason = response.extensions().get::<ReasonPhrase>().is_some();
        let is_of_hyper = response.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        if headers.contains_key(WWW_AUTHENTICATE) || has_own_reason || is_of_hyper {
            Self::Proxy
        } else {
            Self::Exporter
        }
    }
}

impl fmt::Display for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy => f.write_str("the answer is"),
            Self::Exporter => f.write_str("the exporter answered"),
            Self::Other(name) => write!(f, "`{name}` answered"),
        }
    }
}
