//! Finds certificates, keys and lists that are well-formed but cannot work with TLS, before a
//! handshake fails because of them. The messages are for operators.
//!
//! A problem is an error if it means that no client is ever accepted, or that an exporter cannot be
//! scraped. It is a warning if only some peers may refuse the certificate, or if time or another
//! file resolves it.

mod algorithm;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, net::IpAddr};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::{
    asn1_rs::{Oid, oid},
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension, X509Extension},
    parse_x509_certificate, parse_x509_crl,
    revocation_list::CertificateRevocationList,
    x509::{X509Name, X509Version},
};

use super::{certificate::date, pem::BlockPlace, verify::signs};

/// Certificates, each with its place in the file.
pub(crate) type Placed = [(BlockPlace, CertificateDer<'static>)];

/// How an own certificate is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// By this server. Scrapers verify it.
    Server,
    /// By this server, from enrollment. openITCOCKPIT does not verify it.
    EnrolledServer,
    /// By this client, towards an exporter or in `get`.
    Client,
}

/// What CA certificates are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchors<'a> {
    /// Verifying clients: `client-ca`, with the lists of `client-crl` if there are any.
    OfClients,
    /// Verifying servers: `ca-file`, `--cacert`.
    OfServers {
        /// The name that the client connects to.
        name: &'a str,
    },
}

/// Why a certificate, a key or a list does not work, as a message without the file's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CertificateProblem {
    /// The certificate can never work.
    Error(String),
    /// The certificate may not work.
    Warning(String),
}

/// Inspects an own certificate and its intermediate CAs.
pub(crate) fn chain(chain: &Placed, own: Own, now: OffsetDateTime) -> Vec<CertificateProblem> {
    let parsed = parsed(chain);
    let mut problems = Vec::new();
    let Some(((place, leaf), issuers)) = parsed.split_first() else { return problems };
    let mut warn = |text: String| problems.push(CertificateProblem::Warning(text));
    if let Some(usage) = leaf.extended_key_usage().ok().flatten().map(|usage| usage.value) {
        let (is_for_it, wanted, peer) = match own {
            Own::Server | Own::EnrolledServer => {
                (usage.server_auth, "serverAuth", "scrapers refuse")
            }
            Own::Client => (usage.client_auth, "clientAuth", "the server refuses"),
        };
        if !is_for_it && !usage.any {
            warn(format!(
                "{place} has no {wanted} in its extended key usage, so {peer} it: issue it with \
                 extendedKeyUsage={wanted}"
            ));
        }
    }
    if own == Own::Client {
        let validity = leaf.validity();
        let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        if end < now.unix_timestamp() {
            warn(format!(
                "{place} expired on {}, so the server refuses it: renew the certificate",
                date(end)
            ));
        } else if begin > now.unix_timestamp() {
            warn(format!(
                "{place} is not valid before {}, so the server refuses it until then: check this \
                 host's clock",
                date(begin)
            ));
        }
    }
    if own == Own::Server && !has_names(leaf) {
        warn(format!(
            "{place} has no DNS name or address in a subjectAltName, so Prometheus refuses it unless \
             `insecure_skip_verify` is set: issue it with subjectAltName=DNS:HOST"
        ));
    }
    for (index, (place, certificate)) in parsed.iter().enumerate() {
        let is_own_issuer = certificate.subject() == certificate.issuer();
        if !is_own_issuer && has_weak_signature(certificate) {
            warn(format!(
                "{place} is signed with SHA-1 or MD5, which most programs refuse: reissue it with \
                 SHA-256"
            ));
        }
        let Some((next_place, next)) = parsed.get(index + 1) else { continue };
        if certificate.issuer() != next.subject() {
            warn(format!(
                "{next_place} is not the issuer of {place}, so some programs refuse the chain: put \
                 the leaf certificate first, and each issuer after the certificate that it signed"
            ));
        }
    }
    for (place, issuer) in issuers {
        let end = issuer.validity().not_after.timestamp();
        if end < now.unix_timestamp() {
            warn(format!(
                "{place} expired on {}: replace it with the issuer's current certificate",
                date(end)
            ));
        }
    }
    problems
}

/// Inspects trust anchors.
pub(crate) fn anchors(
    anchors: &Placed,
    role: Anchors<'_>,
    now: OffsetDateTime,
) -> Vec<CertificateProblem> {
    let parsed = parsed(anchors);
    let mut problems = Vec::new();
    for (place, anchor) in &parsed {
        let signs = signs(anchor);
        let unusable = algorithm::of_public(anchor.public_key())
            .map(|problem| format!("{place} has {problem}"))
            .or_else(|| constraint(place, anchor))
            .or_else(|| critical(place, anchor).filter(|_| !signs));
        match unusable {
            Some(text) if matches!(role, Anchors::OfServers { .. }) && parsed.len() > 1 => {
                problems.push(CertificateProblem::Warning(text));
            }
            Some(text) => problems.push(CertificateProblem::Error(text)),
            None if signs => {
                problems.extend(critical(place, anchor).map(CertificateProblem::Warning))
            }
            None => {}
        }
        let own = match role {
            Anchors::OfClients => leaf(place, anchor),
            Anchors::OfServers { name } => own_of_server(place, anchor, name),
        };
        problems.extend(own.map(CertificateProblem::Warning));
    }
    problems.extend(dates(&parsed, role, now));
    problems
}

/// Finds a private key that TLS cannot use. Returns the problem.
pub(crate) fn key(key: &PrivateKeyDer<'_>) -> Option<String> {
    algorithm::of_private(key).map(|problem| format!("it is {problem}"))
}

/// Inspects revocation lists, and whether they fit the CAs. The first value is about the CAs, the
/// second about the lists. Without lists, nothing is checked.
pub(crate) fn lists(
    anchors: &Placed,
    lists: &[(BlockPlace, Vec<u8>)],
) -> (Vec<CertificateProblem>, Vec<CertificateProblem>) {
    let (mut of_anchors, mut of_lists) = (Vec::new(), Vec::new());
    let anchors = parsed(anchors);
    let lists: Vec<_> = lists
        .iter()
        .filter_map(|(place, der)| Some((place, parse_x509_crl(der).ok()?.1)))
        .collect();
    if !lists.is_empty() {
        of_anchors.extend(anchors.iter().filter_map(|anchor| without_list(anchor, &lists)));
        of_anchors.extend(namesakes(&anchors, &lists));
    }
    for (place, list) in &lists {
        let unsupported = unsupported_list(list).map(CertificateProblem::Error);
        let problem =
            unsupported.or_else(|| issuer_of_list(list, &anchors).map(CertificateProblem::Warning));
        of_lists.extend(problem.map(|problem| match problem {
            CertificateProblem::Error(text) => CertificateProblem::Error(format!("{place} {text}")),
            CertificateProblem::Warning(text) => {
                CertificateProblem::Warning(format!("{place} {text}"))
            }
        }));
    }
    (of_anchors, of_lists)
}

fn parsed(all: &Placed) -> Vec<(&BlockPlace, X509Certificate<'_>)> {
    let parse = |der| parse_x509_certificate(der).ok().map(|(_, parsed)| parsed);
    all.iter().filter_map(|(place, der)| Some((place, parse(der)?))).collect()
}

/// A warning about a client's own certificate as an anchor. It works, but usually a CA was meant.
fn leaf(place: &BlockPlace, anchor: &X509Certificate<'_>) -> Option<String> {
    if signs(anchor) {
        return None;
    }
    let issuer = shown(anchor.issuer());
    let why = match anchor.basic_constraints() {
        Ok(None) => " (it has no basicConstraints)",
        Ok(Some(_)) | Err(_) => "",
    };
    Some(format!(
        "{place} is not a CA certificate{why}: it authorizes only a client that presents exactly this \
         certificate. If `{issuer}` signed the clients' certificates, put the certificate of \
         `{issuer}` into the file"
    ))
}

fn has_names(certificate: &X509Certificate<'_>) -> bool {
    let names = certificate.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| {
        let is_name = |name: &GeneralName<'_>| {
            matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_))
        };
        names.value.general_names.iter().any(is_name)
    })
}

/// A warning about a server's own certificate that is trusted, but is refused if the server
/// presents it.
///
/// A CA needs no names. A certificate that may sign but has no names therefore counts as the
/// server's own only if its common name is the name that the client connects to.
fn own_of_server(place: &BlockPlace, anchor: &X509Certificate<'_>, name: &str) -> Option<String> {
    if anchor.version != X509Version::V3 || anchor.subject() != anchor.issuer() {
        return None;
    }
    let signs = signs(anchor);
    let is_asked_by = |common_name: &str| common_name.eq_ignore_ascii_case(name);
    let is_named = || {
        let mut names = anchor.subject().iter_common_name();
        names.any(|name| name.as_str().is_ok_and(is_asked_by))
    };
    let usage = anchor.extended_key_usage().ok().flatten().map(|usage| usage.value);
    let (lacks, remedy) = if usage.is_some_and(|usage| !usage.any && !usage.server_auth) {
        ("no serverAuth in its extended key usage", "extendedKeyUsage=serverAuth".to_owned())
    } else if !has_names(anchor) && (!signs || is_named()) {
        let kind = if name.parse::<IpAddr>().is_ok() { "IP" } else { "DNS" };
        let remedy = format!("subjectAltName={kind}:{name}");
        ("no DNS name or address in a subjectAltName", remedy)
    } else {
        return None;
    };
    let works = if signs { "works only as a CA" } else { "matches no server" };
    Some(format!(
        "{place} {works}: it has {lacks}, so a server that presents it is refused. If it is the server's \
         own certificate, issue it with {remedy}"
    ))
}

/// webpki refuses everything that a CA with constraints on directory names has signed.
fn constraint(place: &BlockPlace, anchor: &X509Certificate<'_>) -> Option<String> {
    let constraints = anchor.name_constraints().ok().flatten()?;
    let all = [&constraints.value.permitted_subtrees, &constraints.value.excluded_subtrees];
    let mut bases = all.into_iter().flatten().flatten().map(|subtree| &subtree.base);
    bases.any(|base| matches!(base, GeneralName::DirectoryName(_))).then(|| {
        format!(
            "{place} has name constraints on directory names (dirName), which are not supported, so \
             everything that it signed is refused: issue it without them, or name the intermediate CA instead"
        )
    })
}

/// A critical extension that webpki does not know. webpki ignores it in a trust anchor, but refuses
/// a peer that presents the certificate itself.
fn critical(place: &BlockPlace, anchor: &X509Certificate<'_>) -> Option<String> {
    let is_unknown = |extension: &&X509Extension<'_>| {
        extension.critical
            && !matches!(
                extension.parsed_extension(),
                ParsedExtension::KeyUsage(_)
                    | ParsedExtension::SubjectAlternativeName(_)
                    | ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::NameConstraints(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
                    | ParsedExtension::CRLDistributionPoints(_)
            )
    };
    let extension = anchor.extensions().iter().find(is_unknown)?;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an extension without a name that operators know is not named"
    )]
    let name = match extension.parsed_extension() {
        ParsedExtension::CertificatePolicies(_) => "certificatePolicies",
        ParsedExtension::PolicyMappings(_) => "policyMappings",
        ParsedExtension::PolicyConstraints(_) => "policyConstraints",
        ParsedExtension::InhibitAnyPolicy(_) => "inhibitAnyPolicy",
        _ => "",
    };
    let what = match name {
        "" => "a critical extension that is not supported".to_owned(),
        name => format!("the critical extension {name}"),
    };
    Some(if signs(anchor) {
        format!(
            "{place} has {what}: certificates that it signed work, but it cannot be used as a client or \
             server certificate itself"
        )
    } else {
        format!(
            "{place} has {what}, so a peer that presents it is refused: issue it without that extension, \
             or make the extension non-critical"
        )
    })
}

fn has_weak_signature(certificate: &X509Certificate<'_>) -> bool {
    /// RFC 3279 §2.2: RSA with MD5 and SHA-1, ECDSA with SHA-1.
    const WEAK: [Oid<'_>; 3] =
        [oid!(1.2.840.113549.1.1.4), oid!(1.2.840.113549.1.1.5), oid!(1.2.840.10045.4.1)];
    WEAK.contains(&certificate.signature_algorithm.algorithm)
}

/// Warns of anchors that are expired or not valid yet. Not an error, because a new file or a
/// correct clock resolves it without a restart.
fn dates(
    parsed: &[(&BlockPlace, X509Certificate<'_>)],
    role: Anchors<'_>,
    now: OffsetDateTime,
) -> Vec<CertificateProblem> {
    let now = now.unix_timestamp();
    let consequence = match role {
        Anchors::OfClients => "every client that depends on it is refused",
        Anchors::OfServers { .. } => "every server that depends on it is refused",
    };
    let of = |(place, anchor): &(&BlockPlace, X509Certificate<'_>)| {
        let validity = anchor.validity();
        let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let text = if end < now {
            format!(
                "{place} expired on {}, so {consequence}: put the CA's new certificate into the file",
                date(end)
            )
        } else if begin > now {
            format!(
                "{place} is not valid before {}, so {consequence} until then: check this host's clock",
                date(begin)
            )
        } else {
            return None;
        };
        Some(CertificateProblem::Warning(text))
    };
    parsed.iter().filter_map(of).collect()
}

/// A warning about a CA without a usable list, while other CAs have lists.
fn without_list(
    (place, anchor): &(&BlockPlace, X509Certificate<'_>),
    lists: &[(&BlockPlace, CertificateRevocationList<'_>)],
) -> Option<CertificateProblem> {
    if !signs(anchor) {
        return None;
    }
    if !lists.iter().any(|(_, list)| list.issuer() == anchor.subject()) {
        return Some(CertificateProblem::Warning(format!(
            "{place} has no CRL in the file that `client-crl` names, so every client with a \
             certificate that it signed is refused: add its CRL there"
        )));
    }
    // RFC 5280 §4.2.1.3.
    let usage = anchor.key_usage().ok().flatten();
    usage.is_some_and(|usage| !usage.value.crl_sign()).then(|| {
        CertificateProblem::Warning(format!(
            "{place} has no cRLSign in its key usage: OpenSSL rejects its CRLs, scrapegate accepts \
             them. Reissue it with keyUsage=keyCertSign,cRLSign"
        ))
    })
}

/// A warning about CAs that have the same name and different keys. Lists are matched by name, so
/// only one of these CAs has a list.
fn namesakes(
    anchors: &[(&BlockPlace, X509Certificate<'_>)],
    lists: &[(&BlockPlace, CertificateRevocationList<'_>)],
) -> Vec<CertificateProblem> {
    let mut problems = Vec::new();
    for (index, (place, anchor)) in anchors.iter().enumerate() {
        let has_list = lists.iter().any(|(_, list)| list.issuer() == anchor.subject());
        let is_other = |(_, other): &&(&BlockPlace, X509Certificate<'_>)| {
            other.subject() == anchor.subject()
                && other.public_key().raw != anchor.public_key().raw
                && signs(other)
        };
        let other = anchors.iter().take(index).find(is_other);
        if let Some((other, _)) = other.filter(|_| has_list && signs(anchor)) {
            problems.push(CertificateProblem::Warning(format!(
                "{other} and {place} have the same subject and different keys. Only the newest CRL of a \
                 subject is used, so clients of the older CA are refused: give the new CA another \
                 subject"
            )));
        }
    }
    problems
}

/// Warns of lists past their `nextUpdate`. Only the newest list of each issuer counts.
pub(crate) fn expired_lists(
    lists: &[(BlockPlace, Vec<u8>)],
    now: OffsetDateTime,
) -> Vec<CertificateProblem> {
    /// issuingDistributionPoint (RFC 5280 §5.2.5).
    const SCOPE: Oid<'_> = oid!(2.5.29.28);

    let mut lists: Vec<_> = lists
        .iter()
        .filter_map(|(place, der)| Some((place, parse_x509_crl(der).ok()?.1)))
        .collect();
    lists.sort_by_key(|(_, list)| std::cmp::Reverse(list.last_update().timestamp()));
    let mut seen = HashSet::new();
    let mut problems = Vec::new();
    for (place, list) in &lists {
        let scope = list.extensions().iter().find(|extension| extension.oid == SCOPE);
        let is_newest = seen.insert((list.issuer().as_raw(), scope.map(|scope| scope.value)));
        let end = list.next_update().map(|end| end.timestamp());
        if let Some(end) = end.filter(|end| is_newest && *end <= now.unix_timestamp()) {
            problems.push(CertificateProblem::Warning(format!(
                "{place} is a CRL that expired on {}: clients of `{}` are refused until you replace it",
                date(end),
                shown(list.issuer())
            )));
        }
    }
    problems
}

fn issuer_of_list(
    list: &CertificateRevocationList<'_>,
    anchors: &[(&BlockPlace, X509Certificate<'_>)],
) -> Option<String> {
    let mut issuers =
        anchors.iter().filter(|(_, anchor)| anchor.subject() == list.issuer()).peekable();
    if issuers.peek().is_none() {
        let issuer = shown(list.issuer());
        return Some(format!(
            "is a CRL of `{issuer}`, which is not one of the CAs: it applies only to an intermediate \
             CA of that name"
        ));
    }
    let is_signed = issuers.any(|(_, anchor)| list.verify_signature(anchor.public_key()).is_ok());
    (!is_signed).then(|| {
        "is a CRL that is not signed by the CA that it names, so every client of that CA is \
         refused: fetch the CA's current CRL"
            .to_owned()
    })
}

/// A name as messages show it: escaped and truncated.
fn shown(name: &X509Name<'_>) -> String {
    let text: String = name.to_string().chars().take(200).collect();
    text.escape_debug().to_string()
}

/// Lists of a kind that is not supported (RFC 5280 §5).
fn unsupported_list(list: &CertificateRevocationList<'_>) -> Option<String> {
    /// deltaCRLIndicator (RFC 5280 §5.2.4).
    const DELTA: Oid<'_> = oid!(2.5.29.27);

    let text = if list.version() != Some(X509Version::V2) {
        "is a CRL of version 1, which is not supported: issue it as version 2 (in the CA's \
         openssl.cnf, set `crlnumber` and `crl_extensions`)"
    } else if list.extensions().iter().any(|extension| extension.oid == DELTA) {
        "is a delta CRL, which is not supported: use the complete CRL"
    } else if list.extensions().iter().any(|extension| {
        matches!(
            extension.parsed_extension(),
            ParsedExtension::IssuingDistributionPoint(point) if point.indirect_crl
        )
    }) {
        "is an indirect CRL, which is not supported: use the CRL of the issuer itself"
    } else {
        return None;
    };
    Some(text.to_owned())
}
