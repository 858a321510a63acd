//! OpenSSL's `TRUSTED CERTIFICATE`: a certificate, followed by the purposes for which it is trusted
//! (`X509_CERT_AUX` in OpenSSL's crypto/x509/x_x509a.c; `openssl x509 -trustout` writes it).

use x509_parser::{
    asn1_rs::{Any, Class, FromDer as _, Oid, Tag, oid},
    prelude::X509Certificate,
};

/// Extended key usages, which OpenSSL uses to name the purposes.
const ANY: Oid<'_> = oid!(2.5.29.37.0);
const SERVER: Oid<'_> = oid!(1.3.6.1.5.5.7.3.1);
const CLIENT: Oid<'_> = oid!(1.3.6.1.5.5.7.3.2);

/// The trust settings that follow the certificate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// The only purposes for which the certificate is trusted; `None` for all purposes.
    trust: Option<Vec<Oid<'static>>>,
    /// The purposes for which the certificate is not trusted.
    reject: Vec<Oid<'static>>,
}

impl Settings {
    /// Parses the bytes that follow the certificate; `None` if they are malformed. No bytes mean no
    /// settings.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut settings = Self::default();
        if bytes.is_empty() {
            return Some(settings);
        }
        let (rest, all) = Any::from_der(bytes).ok()?;
        if !rest.is_empty() || all.tag() != Tag::Sequence {
            return None;
        }
        let mut rest = all.data;
        while !rest.is_empty() {
            let (behind, item) = Any::from_der(rest).ok()?;
            rest = behind;
            // An alias, a key identifier and other algorithms follow; they say nothing about trust.
            match (item.class(), item.tag()) {
                (Class::Universal, Tag::Sequence) => settings.trust = Some(oids(item.data)?),
                (Class::ContextSpecific, Tag(0)) => settings.reject = oids(item.data)?,
                _ => {}
            }
        }
        Some(settings)
    }

    pub(super) fn trusts_clients(&self) -> bool {
        self.trusts(&CLIENT)
    }

    pub(super) fn trusts_servers(&self) -> bool {
        self.trusts(&SERVER)
    }

    /// Decides as OpenSSL does (`obj_trust` in crypto/x509/x509_trust.c).
    fn trusts(&self, usage: &Oid<'_>) -> bool {
        let names_it = |all: &Vec<Oid<'_>>| all.iter().any(|one| one == usage || *one == ANY);
        !names_it(&self.reject) && self.trust.as_ref().is_none_or(names_it)
    }
}

fn oids(mut bytes: &[u8]) -> Option<Vec<Oid<'static>>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (rest, one) = Oid::from_der(bytes).ok()?;
        all.push(one.to_owned());
        bytes = rest;
    }
    Some(all)
}

/// Splits the bytes into the certificate and the rest. `None` if they do not begin with a
/// certificate.
pub(super) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, _) =
        <X509Certificate<'_> as x509_parser::prelude::FromDer<_>>::from_der(bytes).ok()?;
    Some(bytes.split_at(bytes.len() - rest.len()))
}
