//! The temporary certificates.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use rustls::ClientConfig;

use super::error::Error;
use crate::tls::{
    Servers, Trust, client_tls,
    pki::{Authority, Pair, Validity},
    provider,
};

/// A CA that is valid for one day, and a pair for each side.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(super) authority: Authority,
    pub(super) server: Pair,
    pub(super) client: Pair,
}

impl Certificates {
    /// Generates them for a proxy that listens on `listen`. `name` is the name of the CA and of the
    /// client.
    pub(crate) fn generate(name: &str, listen: IpAddr) -> Result<Self, Error> {
        let authority = Authority::generate(&format!("{name} CA"), Validity::OneDay)?;
        let server = authority.server_pair(&hosts(listen))?;
        let client = authority.client_pair(name)?;
        Ok(Self { authority, server, client })
    }

    /// Configuration of a TLS client that trusts this CA and presents the client certificate.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, Error> {
        let algorithms = provider().signature_verification_algorithms;
        let trust = Trust::new(vec![self.authority.pair().certificate()], Vec::new(), algorithms)?;
        let pair = (vec![self.client.certificate()], self.client.key());
        let config = client_tls(Servers::Of(trust), Some(pair))?;
        Ok(Arc::new(config))
    }
}

/// The address at which this host reaches a server that listens on `listen`.
pub(crate) fn reachable(listen: IpAddr) -> IpAddr {
    match listen {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => listen,
    }
}

/// The names and addresses in the server's certificate.
fn hosts(listen: IpAddr) -> Vec<String> {
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
    let address = reachable(listen).to_string();
    if !hosts.contains(&address) {
        hosts.push(address);
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_valid_for_the_scraped_address() {
        for (listen, scraped, names) in [
            ("127.0.0.1", "127.0.0.1", 3),
            ("0.0.0.0", "127.0.0.1", 3),
            ("::", "::1", 3),
            ("192.0.2.7", "192.0.2.7", 4),
        ] {
            let listen: IpAddr = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), scraped);
            assert!(hosts(listen).contains(&scraped.to_owned()), "{listen}");
            assert_eq!(hosts(listen).len(), names, "{listen}");
        }
    }
}
