//! Which clients are authorized: the patterns of `client-allow`, and HTTP Basic in addition to
//! them.

mod basic;

use hyper::header::HeaderMap;

use self::basic::Basic;
use crate::{
    common::{
        deadline::Deadline,
        error::Refusal,
        peer::{ClientIdentity, Peer},
    },
    config::{BasicAuth, ClientPattern},
};

/// Decides which requests are authorized.
#[derive(Debug, Default)]
pub struct Access {
    allow: Vec<ClientPattern>,
    basic: Option<Basic>,
}

impl Access {
    /// Creates the rules. If `allow` is empty, every client that passed TLS is authorized.
    #[must_use]
    pub fn new(allow: Vec<ClientPattern>, basic: Option<BasicAuth>) -> Self {
        Self { allow, basic: basic.map(Basic::new) }
    }

    /// Takes over state from the rules before a reload: the queue of password checks and, if the
    /// password is unchanged, the credentials that were accepted. Otherwise each reload would allow
    /// one more check at a time, and send every scraper through the queue again.
    pub fn continue_from(&mut self, before: &Self) {
        if let (Some(basic), Some(before)) = (&mut self.basic, &before.basic) {
            basic.continue_from(before);
        }
    }

    /// Whether `client-allow` authorizes `client`, whatever its password is.
    #[must_use]
    pub fn allows(&self, client: Option<&ClientIdentity>) -> bool {
        self.allow.is_empty()
            || client.is_some_and(|client| self.allow.iter().any(|rule| rule.matches(client)))
    }

    /// Checks one request.
    ///
    /// Waits only if the password was not accepted before and must be compared with a bcrypt hash,
    /// and at most until `deadline`. Dropping the future removes the check from the queue.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] takes precedence over [`Refusal::Unauthorized`], so that a client
    /// that is not on the list cannot guess passwords. [`Refusal::Unchecked`] if the password could
    /// not be checked.
    pub async fn check(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        deadline: Deadline,
    ) -> Result<(), Refusal> {
        if !self.allows(peer.identity.as_ref()) {
            return Err(Refusal::NotAllowed);
        }
        match &self.basic {
            None => Ok(()),
            Some(basic) => basic.check(peer, headers, deadline).await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::time::Instant;

    use super::*;
    use crate::{common::deadline::Budget, config::Password};

    fn client() -> ClientIdentity {
        ClientIdentity {
            common_name: Some("prometheus-1".to_owned()),
            dns: vec!["Prom.example.org".to_owned()],
            uris: vec!["spiffe://example.org/prom".to_owned()],
            ips: vec!["192.0.2.7".parse().unwrap()],
            spki_sha256: [7; 32],
            label: "prometheus-1".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_client_that_is_not_on_the_list_is_refused_before_its_password_is_checked() {
        let rule = ClientPattern::CommonName("other".to_owned());
        let auth = BasicAuth { user: "u".to_owned(), password: Password::Plain("p".to_owned()) };
        let access = Access::new(vec![rule], Some(auth));
        let deadline = Deadline::after(Instant::now(), Budget::new(Budget::MAX).unwrap());
        for identity in [None, Some(client())] {
            let peer = Peer { address: ([127, 0, 0, 1], 1).into(), identity };
            let refusal = access.check(&peer, &HeaderMap::new(), deadline).await;
            assert!(matches!(refusal, Err(Refusal::NotAllowed)));
        }
    }
}
