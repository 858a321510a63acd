//! The kinds of events that the process counts, and their labels.

/// Makes the function `label` and the list of all labels of the same rows. A variant without a row
/// does not compile.
macro_rules! labels {
    ($Event:ident { $($Variant:ident => $label:literal,)+ }) => {
        impl $Event {
            /// The labels of all variants, in their order.
            pub(super) const LABELS: &'static [&'static str] = &[$($label),+];

            pub(super) fn label(self) -> &'static str {
                match self {
                    $(Self::$Variant => $label,)+
                }
            }
        }
    };
}

/// How a TLS handshake ended: label `result` of `scrapegate_tls_handshakes_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handshake {
    /// The handshake is complete and the client is trusted.
    Ok,
    /// The client sent no certificate.
    NoCertificate,
    /// The client's certificate was rejected.
    BadCertificate,
    /// The client sent an alert, usually because it does not trust the proxy's certificate.
    RefusedByClient,
    /// The client does not speak TLS, or the two sides have no version or cipher suite in common.
    Protocol,
    /// The client closed or lost the connection.
    ConnectionLost,
    /// The handshake did not finish within `handshake-timeout`.
    TimedOut,
    /// The handshake was evicted: `max-handshakes` was reached, and this was the oldest unfinished
    /// handshake of the address with the most.
    Evicted,
    /// The proxy shut down.
    Shutdown,
}

labels! {
    Handshake {
        Ok => "ok",
        NoCertificate => "no_certificate",
        BadCertificate => "bad_certificate",
        RefusedByClient => "refused_by_client",
        Protocol => "protocol",
        ConnectionLost => "connection_lost",
        TimedOut => "timed_out",
        Evicted => "evicted",
        Shutdown => "shutdown",
    }
}

/// Why a connection was not accepted or was closed at once: label `kind` of
/// `scrapegate_accept_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AcceptError {
    /// The client reset the connection before it was accepted.
    ConnectionLost,
    /// No file descriptor or no memory was available. The connection waits in the backlog.
    NoResources,
    /// The client's address already has `max-connections-per-ip` connections.
    PerIpLimit,
    /// The connection used plain HTTP and came from another host.
    PlainHttp,
    /// Any other error of accept(2).
    Other,
}

labels! {
    AcceptError {
        ConnectionLost => "connection_lost",
        NoResources => "no_resources",
        PerIpLimit => "max_connections_per_ip",
        PlainHttp => "plain_http",
        Other => "other",
    }
}

/// Why a request never reached the handler: label `reason` of `scrapegate_http_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// The request head was not complete within `header-timeout`.
    HeaderTimeout,
    /// The request head was larger than 16 KiB, or had too many fields.
    HeadTooLarge,
    /// The bytes were not an HTTP request.
    Malformed,
    /// The client violated the TLS protocol after a successful handshake.
    BrokenTls,
    /// The client closed the connection before its password check was done. The attempt may be a
    /// guess, so it counts.
    LeftUnchecked,
}

labels! {
    Unread {
        HeaderTimeout => "header_timeout",
        HeadTooLarge => "head_too_large",
        Malformed => "malformed",
        BrokenTls => "broken_tls",
        LeftUnchecked => "left_unchecked",
    }
}
