//! What new connections and requests use, and which clients are authorized. A reload replaces it.

use std::{fmt, net::IpAddr, sync::Arc};

use super::security::ConnectionSecurity;
use crate::{
    common::{error::certificate::CertificateFault, peer::Peer},
    config::Limits,
    http::state::AppState,
    tls::{ServerTls, wall_clock},
};

/// How new connections are handled.
#[derive(Clone, Debug)]
pub enum ListenerMode {
    /// TLS.
    Tls(ServerTls),
    /// Plain HTTP, with `insecure-plain-http = True`.
    PlainHttp,
    /// Plain HTTP that serves only enrollment: `try-autossl` is on, and the host has no certificate
    /// yet.
    NotEnrolled,
}

/// The state that new connections and new requests use. A reload replaces it as a whole. A scrape
/// keeps the state with which it began.
#[derive(Debug)]
pub struct ServingState {
    /// How new connections are handled.
    pub mode: ListenerMode,
    /// What requests use.
    pub service: Arc<AppState>,
    /// The timeouts and limits of connections.
    pub limits: Limits,
}

/// Why a client is no longer authorized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unauthorized {
    /// A reload changed the rules.
    Reload,
    /// The certificates of the client are no longer trusted: one of them, a CA or a CRL has
    /// expired.
    Certificate(CertificateFault),
}

impl fmt::Display for Unauthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reload => f.write_str("reload"),
            Self::Certificate(fault) => fault.fmt(f),
        }
    }
}

impl ServingState {
    /// The TLS configuration; `None` for plain HTTP.
    #[must_use]
    pub fn tls(&self) -> Option<&ServerTls> {
        match &self.mode {
            ListenerMode::Tls(tls) => Some(tls),
            ListenerMode::PlainHttp | ListenerMode::NotEnrolled => None,
        }
    }

    /// Whether a connection from this peer would be accepted now.
    #[must_use]
    pub fn authorizes(&self, peer: &Peer, security: &ConnectionSecurity) -> bool {
        self.authorize(peer, security).is_ok()
    }

    /// Checks whether a connection from this peer would be accepted now.
    ///
    /// # Errors
    /// The reason if it would not.
    pub fn authorize(
        &self,
        peer: &Peer,
        security: &ConnectionSecurity,
    ) -> Result<(), Unauthorized> {
        let let_in = match (&self.mode, security) {
            // After a change between plain HTTP and TLS, no connection stays.
            (ListenerMode::Tls(_), ConnectionSecurity::Plain)
            | (
                ListenerMode::PlainHttp | ListenerMode::NotEnrolled,
                ConnectionSecurity::Tls { .. },
            ) => false,
            // Checked here too, because a socket passed by the service manager may listen on any
            // address.
            (ListenerMode::PlainHttp, ConnectionSecurity::Plain) => is_this_host(peer.address.ip()),
            (ListenerMode::NotEnrolled, ConnectionSecurity::Plain)
            | (
                ListenerMode::Tls(ServerTls { clients: None, .. }),
                ConnectionSecurity::Tls { .. },
            ) => true,
            (
                ListenerMode::Tls(ServerTls { clients: Some(verifier), .. }),
                ConnectionSecurity::Tls { presented, .. },
            ) => match presented.split_first() {
                Some((leaf, rest)) => {
                    verifier.verify(leaf, rest, wall_clock()).map_err(Unauthorized::Certificate)?;
                    true
                }
                None => false,
            },
        };
        if let_in && self.service.access.allows(peer.identity.as_ref()) {
            Ok(())
        } else {
            Err(Unauthorized::Reload)
        }
    }

    /// The last time before `now` at which a CA or a CRL expired. Both are in seconds since 1970
    /// (UTC).
    pub(super) fn last_end_before(&self, now: i64) -> Option<i64> {
        self.tls()?.clients.as_ref()?.trust().last_end_before(now)
    }
}

/// Whether plain HTTP from this address stays on this host.
fn is_this_host(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

#[cfg(test)]
pub(in crate::downstream) mod fixture;

#[cfg(test)]
mod tests {
    use super::{fixture::serving, *};
    use crate::common::error::certificate::Link;

    #[test]
    fn plain_http_is_accepted_from_loopback_addresses_only() {
        let is_this_host = |ip: &str| is_this_host(ip.parse().expect("an address"));
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_this_host(ip), "{ip}");
        }
        for ip in ["192.0.2.1", "10.0.0.1", "0.0.0.0", "::", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(!is_this_host(ip), "{ip}");
        }
    }

    #[test]
    fn a_peer_over_plain_http_is_authorized_in_plain_http_mode_from_this_host_only() {
        let plain = ConnectionSecurity::Plain;
        let state = serving(ListenerMode::PlainHttp);
        for (ip, is_authorized) in [([127, 0, 0, 1], true), ([192, 0, 2, 1], false)] {
            let peer = Peer { address: (ip, 1).into(), identity: None };
            assert_eq!(state.authorizes(&peer, &plain), is_authorized, "{ip:?}");
            let over_tls = serving(ListenerMode::Tls(fixture::tls(None)));
            assert!(!over_tls.authorizes(&peer, &plain), "after a change to TLS");
        }
    }

    #[test]
    fn a_ca_of_the_clients_ends_after_its_last_second() {
        const END: i64 = 2_000_000_000;
        let with_ca = serving(ListenerMode::Tls(fixture::tls(Some(END))));
        for (now, last) in [(END, None), (END + 1, Some(END)), (END + 1000, Some(END))] {
            assert_eq!(with_ca.last_end_before(now), last, "{now}");
        }
        for mode in [ListenerMode::PlainHttp, ListenerMode::Tls(fixture::tls(None))] {
            assert_eq!(serving(mode).last_end_before(END + 1), None, "no CA");
        }
    }

    #[test]
    fn an_operator_reads_why_a_client_is_no_longer_authorized() {
        let expired = CertificateFault::Expired(Link::Leaf, 0);
        for (why, text) in [
            (Unauthorized::Reload, "reload".to_owned()),
            (Unauthorized::Certificate(expired.clone()), expired.to_string()),
        ] {
            assert_eq!(why.to_string(), text);
        }
    }
}
