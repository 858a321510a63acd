//! Certificate revocation lists (RFC 5280 §5). webpki parses all lists and looks up certificates of
//! X.509 version 3. This module does the same for version 1.

use std::collections::HashSet;

use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateRevocationListDer, UnixTime},
};
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationOptions,
    RevocationOptionsBuilder,
};
use x509_parser::{
    extensions::ParsedExtension, parse_x509_crl, revocation_list::CertificateRevocationList,
};

use super::{anchor::Anchor, dates::seconds, signed::Signed, version1::Version1};
use crate::common::error::certificate::CertificateFault;

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The bytes are not a list, or the list has syntax errors.
    #[error("the list cannot be read")]
    Unreadable,
    /// The list has version 1, is a delta or indirect list, or has an unknown critical extension.
    #[error("the list is of an unsupported kind")]
    Unsupported(#[source] webpki::Error),
}

#[derive(Debug, Default)]
pub(super) struct Lists(Vec<List>);

#[derive(Debug)]
struct List {
    der: CertificateRevocationListDer<'static>,
    parsed: CertRevocationList<'static>,
    /// `nextUpdate`, from which on the list is out of date, in seconds since 1970.
    next_update: i64,
    this_update: i64,
    /// Whether the list's scope (RFC 5280 §5.2.5) covers only CA certificates.
    only_authorities: bool,
}

impl Lists {
    pub(super) fn new(ders: Vec<CertificateRevocationListDer<'static>>) -> Result<Self, ListError> {
        let mut lists = ders.into_iter().map(List::read).collect::<Result<Vec<_>, _>>()?;
        // The first list of an issuer counts, so sort the newest to the front.
        lists.sort_by_key(|list| std::cmp::Reverse(list.this_update));
        let mut seen = HashSet::new();
        lists.retain(|list| {
            let scope = list.parsed.issuing_distribution_point().map(<[u8]>::to_vec);
            seen.insert((list.parsed.issuer().to_vec(), scope))
        });
        Ok(Self(lists))
    }

    pub(super) fn for_webpki(&self) -> Vec<&CertRevocationList<'static>> {
        self.0.iter().map(|list| &list.parsed).collect()
    }

    /// Every certificate of a path needs a list from its issuer that is not out of date. Without
    /// any list, revocation is not checked.
    pub(super) fn options<'a>(
        &self,
        lists: &'a [&'a CertRevocationList<'a>],
    ) -> Option<RevocationOptions<'a>> {
        let builder = RevocationOptionsBuilder::new(lists).ok()?;
        Some(builder.with_expiration_policy(ExpirationPolicy::Enforce).build())
    }

    /// Looks up a certificate that `issuer` has signed, as webpki does for version 3.
    pub(super) fn check(
        &self,
        certificate: &Version1<'_>,
        issuer: &Anchor,
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), CertificateFault> {
        if self.0.is_empty() {
            return Ok(());
        }
        // RFC 5280 §6.3.3 (b): a list from the same issuer, whose scope covers the certificate.
        let is_its = |list: &&List| {
            !list.only_authorities
                && list.read_again().is_some_and(|it| it.issuer().as_raw() == certificate.issuer())
        };
        let list = self.0.iter().find(is_its).ok_or(CertificateFault::NoList)?;
        list.is_signed_by(issuer, algorithms)?;
        if seconds(now) >= list.next_update {
            return Err(CertificateFault::ListOutOfDate(list.next_update));
        }
        match list.parsed.find_serial(certificate.serial()) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(CertificateFault::Revoked),
            Err(error) => Err(CertificateFault::Chain(error)),
        }
    }

    /// The last second of each list, in seconds since 1970.
    pub(super) fn ends(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|list| list.next_update.saturating_sub(1))
    }

    /// The first `nextUpdate`, in seconds since 1970.
    pub(super) fn next_update(&self) -> Option<i64> {
        self.0.iter().map(|list| list.next_update).min()
    }
}

impl List {
    fn read(der: CertificateRevocationListDer<'static>) -> Result<Self, ListError> {
        let parsed =
            OwnedCertRevocationList::from_der(&der).map_err(ListError::Unsupported)?.into();
        let (_, again) = parse_x509_crl(&der).map_err(|_| ListError::Unreadable)?;
        let next_update = again.next_update().ok_or(ListError::Unreadable)?.timestamp();
        let this_update = again.last_update().timestamp();
        let only_authorities = only_authorities(&again);
        Ok(Self { parsed, next_update, this_update, only_authorities, der })
    }

    fn read_again(&self) -> Option<CertificateRevocationList<'_>> {
        parse_x509_crl(&self.der).ok().map(|(_, list)| list)
    }

    /// Checks the list's signature (RFC 5280 §6.3.3 (g)).
    fn is_signed_by(
        &self,
        issuer: &Anchor,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), CertificateFault> {
        let key = issuer.key()?;
        let list = self.read_again().ok_or(CertificateFault::ListNotSigned)?;
        let signed = Signed::new(&self.der, list.tbs_cert_list.as_ref());
        signed
            .and_then(|signed| signed.verify(&key, algorithms).ok())
            .ok_or(CertificateFault::ListNotSigned)
    }
}

fn only_authorities(list: &CertificateRevocationList<'_>) -> bool {
    list.extensions().iter().any(|extension| {
        matches!(
            extension.parsed_extension(),
            ParsedExtension::IssuingDistributionPoint(scope) if scope.only_contains_ca_certs
        )
    })
}
