//! Problems of files that parse. `tests/real/openssl_files.rs` inspects files that OpenSSL made.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, SerialNumber,
};
use time::Duration;

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn now() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::days(20_000)
}

/// Parameters with a validity from ten days ago to ten days from now.
fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().copied().map(String::from).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = now() - Duration::days(10);
    params.not_after = now() + Duration::days(10);
    params
}

fn authority(common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Authority {
    let mut params = params(common_name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    Authority::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn self_signed(params: &CertificateParams) -> CertificateDer<'static> {
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
}

fn at(number: usize) -> BlockPlace {
    BlockPlace { number, label: "X".to_owned(), line: 1 }
}

fn placed(all: &[&CertificateDer<'static>]) -> Vec<(BlockPlace, CertificateDer<'static>)> {
    all.iter().enumerate().map(|(index, der)| (at(index + 1), (*der).clone())).collect()
}

/// A list of `issuer`, valid from `begin` to `end`, in days from now.
fn list(issuer: &Authority, begin: i64, end: i64) -> Vec<u8> {
    let params = CertificateRevocationListParams {
        this_update: now() + Duration::days(begin),
        next_update: now() + Duration::days(end),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().der().to_vec()
}

/// The only warning among the problems, or an empty text if there are no problems.
#[track_caller]
fn warning(problems: Vec<CertificateProblem>) -> String {
    match <[CertificateProblem; 1]>::try_from(problems) {
        Ok([CertificateProblem::Warning(text)]) => text,
        Ok([CertificateProblem::Error(text)]) => panic!("an error: {text}"),
        Err(other) if other.is_empty() => String::new(),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn f11_an_own_client_certificate_that_is_not_valid_now_gets_a_warning() {
    let found = |begin: i64, end: i64| {
        let mut params = params("client", &[]);
        params.not_before = now() + Duration::days(begin);
        params.not_after = now() + Duration::days(end);
        let chain_of_it = placed(&[&self_signed(&params)]);
        assert_eq!(chain(&chain_of_it, Own::EnrolledServer, now()), []);
        warning(chain(&chain_of_it, Own::Client, now()))
    };
    assert_eq!(found(-1, 1), "");
    let expired = found(-9, -1);
    let words = "block 1 (X, line 1) expired on 2024-10-03, so the server refuses it";
    assert!(expired.starts_with(words), "{expired}");
    let early = found(1, 9);
    assert!(early.contains("is not valid before 2024-10-05, so the server refuses it"), "{early}");
}

#[test]
fn f11_a_trusted_server_certificate_that_would_be_refused_gets_a_warning() {
    let found = |certificate: &CertificateDer<'static>| {
        let role = Anchors::OfServers { name: "node.example" };
        warning(anchors(&placed(&[certificate]), role, now()))
    };
    let ca = |name: &str, names: &[&str], usages: &[ExtendedKeyUsagePurpose]| {
        let mut params = params(name, names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = usages.to_vec();
        self_signed(&params)
    };
    let (server, client) =
        (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(found(&ca("a CA", &[], &[])), "", "a CA needs no names");
    assert_eq!(found(&ca("node.example", &["node.example"], &[server])), "");
    let nameless = found(&ca("Node.example", &[], &[]));
    assert!(nameless.contains("works only as a CA: it has no DNS name or address"), "{nameless}");
    assert!(nameless.ends_with("issue it with subjectAltName=DNS:node.example"), "{nameless}");
    let for_clients = found(&ca("node.example", &["node.example"], &[client]));
    assert!(for_clients.contains("works only as a CA: it has no serverAuth in"), "{for_clients}");
    let mut leaf = params("another", &[]);
    leaf.is_ca = IsCa::ExplicitNoCa;
    let leaf = found(&self_signed(&leaf));
    assert!(leaf.contains("matches no server: it has no DNS name or address"), "{leaf}");
}

#[test]
fn f11_only_the_newest_list_of_a_ca_gets_a_warning_when_it_expires() {
    let (ca, other) = (authority("ca", |_| {}), authority("other", |_| {}));
    let found = |all: Vec<Vec<u8>>| {
        let all: Vec<_> =
            all.into_iter().enumerate().map(|(index, list)| (at(index + 1), list)).collect();
        warning(expired_lists(&all, now()))
    };
    assert_eq!(found(vec![list(&ca, -9, -1), list(&ca, -2, 5)]), "");
    assert_eq!(found(vec![list(&ca, -2, 5), list(&ca, -9, -1)]), "");
    let expired = found(vec![list(&ca, -9, -2), list(&ca, -8, -1), list(&other, -1, 1)]);
    let words = "block 2 (X, line 1) is a CRL that expired on 2024-10-03: clients of `CN=ca` are \
                 refused until you replace it";
    assert_eq!(expired, words);
}

#[test]
fn f11_two_cas_with_the_same_name_and_a_list_get_a_warning() {
    let (old, new, other) =
        (authority("ca", |_| {}), authority("ca", |_| {}), authority("other", |_| {}));
    let found = |all: &[&Authority], of: &[&Authority]| {
        let all: Vec<_> = all.iter().map(|it| it.der()).collect();
        let of: Vec<_> = of.iter().map(|it| (at(1), list(it, -1, 1))).collect();
        let (of_anchors, of_lists) = lists(&placed(&all), &of);
        assert_eq!(of_lists, []);
        warning(of_anchors)
    };
    assert_eq!(found(&[&old, &other], &[&old, &other]), "");
    assert_eq!(found(&[&old, &old], &[&old]), "", "the same one twice");
    assert_eq!(found(&[&old, &new], &[]), "", "nothing is looked up");
    let both = found(&[&old, &other, &new], &[&new, &other]);
    let words = "block 1 (X, line 1) and block 3 (X, line 1) have the same subject and different";
    assert!(both.starts_with(words), "{both}");
    assert!(both.contains("clients of the older CA are refused"), "{both}");
}
