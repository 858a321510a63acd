//! Problems of files that parse. `tests/real/openssl_files.rs` inspects files that OpenSSL made.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CrlIssuingDistributionPoint,
    CrlScope, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints,
};
use time::Duration;

use super::*;
use crate::tls::fixtures::{
    self, Authority, authority, changed, copy, der, elements, issued, now, params, self_signed,
    sequence,
};

fn at(number: usize) -> BlockPlace {
    BlockPlace { number, label: "X".to_owned(), line: 1 }
}

fn placed(all: &[&CertificateDer<'static>]) -> Vec<(BlockPlace, CertificateDer<'static>)> {
    all.iter().enumerate().map(|(index, der)| (at(index + 1), (*der).clone())).collect()
}

/// A list of `issuer`, valid from `begin` to `end`, in days from now.
fn list(issuer: &Authority, begin: i64, end: i64) -> Vec<u8> {
    fixtures::list(issuer, |params| {
        params.this_update = now() + Duration::days(begin);
        params.next_update = now() + Duration::days(end);
    })
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

/// Checks the beginning of each problem, with the number of the block: `warning: 1 has no …`.
#[track_caller]
fn assert_found(problems: &[CertificateProblem], expected: &[&str]) {
    let shown = |problem: &CertificateProblem| {
        let (kind, text) = match problem {
            CertificateProblem::Error(text) => ("error", text),
            CertificateProblem::Warning(text) => ("warning", text),
        };
        format!("{kind}: {}", text.replace("block ", "").replace(" (X, line 1)", ""))
    };
    let found: Vec<_> = problems.iter().map(shown).collect();
    let is_it = |(found, expected): (&String, &&str)| found.starts_with(expected);
    let is_all = found.len() == expected.len() && found.iter().zip(expected).all(is_it);
    assert!(is_all, "{found:#?} is not {expected:#?}");
}

const SERVERS: Anchors<'static> = Anchors::OfServers { name: "node.example" };

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
    assert_eq!((found(-1, 0), found(0, 1)), Default::default(), "both ends belong to the validity");
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

#[test]
fn f11_an_own_certificate_without_the_usage_of_its_role_gets_a_warning() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    let for_servers =
        ["warning: 1 has no serverAuth in its extended key usage, so scrapers refuse"];
    let for_clients = ["warning: 1 has no clientAuth in its extended key usage, so the server ref"];
    for (usages, as_server, as_client) in [
        (vec![], &[][..], &[][..]),
        (vec![Any], &[], &[]),
        (vec![ClientAuth, ServerAuth], &[], &[]),
        (vec![ClientAuth], &for_servers, &[]),
        (vec![ServerAuth], &[], &for_clients),
    ] {
        let mut params = params("node", &["node.example"]);
        params.extended_key_usages = usages;
        let own = placed(&[&self_signed(&params)]);
        assert_found(&chain(&own, Own::Server, now()), as_server);
        assert_found(&chain(&own, Own::EnrolledServer, now()), as_server);
        assert_found(&chain(&own, Own::Client, now()), as_client);
    }
}

#[test]
fn f11_an_issuer_that_is_expired_or_not_the_next_of_the_chain_gets_a_warning() {
    let root = authority("root", |_| {});
    let until = |seconds: i64| {
        let mut params = params("middle", &[]);
        params.not_after = now() + Duration::seconds(seconds);
        issued(&root, params)
    };
    let found = |middle: &Authority, shown: &Authority| {
        let leaf = issued(middle, params("leaf", &["node.example"]));
        chain(&placed(&[leaf.der(), shown.der(), root.der()]), Own::Server, now())
    };
    let (middle, ends_now, expired) = (until(9), until(0), until(-1));
    assert_found(&found(&middle, &middle), &[]);
    assert_found(&found(&ends_now, &ends_now), &[]);
    assert_found(&found(&expired, &expired), &["warning: 2 expired on 2024-10-03: replace it"]);
    let other = authority("other", |_| {});
    let expected =
        ["warning: 2 is not the issuer of 1", "warning: 3 is not the issuer of 2, so some"];
    assert_found(&found(&middle, &other), &expected);
}

#[test]
fn f11_a_certificate_that_is_signed_with_sha_1_or_md5_gets_a_warning_if_another_signed_it() {
    let ca = authority("ca", |_| {});
    let with = |certificate: &CertificateDer<'_>, oid: &[u8]| {
        let mut parts = elements(certificate);
        parts[1] = sequence(&der(0x06, oid));
        CertificateDer::from(sequence(&parts.concat()))
    };
    let leaf = issued(&ca, params("leaf", &["node.example"]));
    let warned: &[&str] = &["warning: 1 is signed with SHA-1 or MD5"];
    for (oid, expected) in [
        // RSA with MD5, SHA-1 and SHA-256; ECDSA with SHA-1.
        (&b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"[..], warned),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", warned),
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", &[]),
        (b"\x2a\x86\x48\xce\x3d\x04\x01", warned),
    ] {
        let own = [&with(leaf.der(), oid), &with(ca.der(), oid)];
        assert_found(&chain(&placed(&own), Own::Server, now()), expected);
    }
}

/// A certificate with a critical extension.
fn critical_with(is_ca: IsCa, oid: &[u64], content: &[u8]) -> CertificateDer<'static> {
    let mut params = params("node.example", &["node.example"]);
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(true);
    params.custom_extensions = vec![extension];
    params.is_ca = is_ca;
    self_signed(&params)
}

#[test]
fn f11_an_anchor_with_a_critical_extension_that_is_not_supported_is_named() {
    let policy = der(0x06, &[0x2a, 3]);
    for (number, content, words) in [
        (32, sequence(&sequence(&policy)), "the critical extension certificatePolicies"),
        (33, sequence(&sequence(&policy.repeat(2))), "the critical extension policyMappings"),
        (36, sequence(&[0x80, 1, 0]), "the critical extension policyConstraints"),
        (54, vec![2, 1, 0], "the critical extension inhibitAnyPolicy"),
        (99, vec![5, 0], "a critical extension that is not supported"),
    ] {
        let oid = [2, 5, 29, number];
        let ca = critical_with(IsCa::Ca(BasicConstraints::Unconstrained), &oid, &content);
        let works = format!("warning: 1 has {words}: certificates that it signed work");
        assert_found(&anchors(&placed(&[&ca]), Anchors::OfClients, now()), &[&works]);
        assert_found(&anchors(&placed(&[&ca]), SERVERS, now()), &[&works]);
        let leaf = critical_with(IsCa::ExplicitNoCa, &oid, &content);
        let fails = format!("error: 1 has {words}, so a peer that presents it is refused");
        assert_found(&anchors(&placed(&[&leaf]), SERVERS, now()), &[&fails]);
    }
}

#[test]
fn f11_an_unusable_anchor_is_an_error_unless_there_are_other_anchors_of_servers() {
    let bad = authority("bad", |params| {
        let mut name = DistinguishedName::new();
        name.push(rcgen::DnType::OrganizationName, "x");
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DirectoryName(name)],
            excluded_subtrees: vec![],
        });
    });
    let good = authority("good", |params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example".to_owned())],
            excluded_subtrees: vec![],
        });
    });
    let (alone, both) = (placed(&[bad.der()]), placed(&[good.der(), bad.der()]));
    assert_found(
        &anchors(&alone, SERVERS, now()),
        &["error: 1 has name constraints on directory names"],
    );
    assert_found(
        &anchors(&both, SERVERS, now()),
        &["warning: 2 has name constraints on directory names"],
    );
    let role = Anchors::OfClients;
    assert_found(&anchors(&alone, role, now()), &["error: 1 has name constraints on directory"]);
    assert_found(&anchors(&both, role, now()), &["error: 2 has name constraints on directory"]);
}

#[test]
fn f11_an_anchor_of_clients_that_is_not_a_ca_gets_a_warning() {
    let ca = authority("ca", |_| {});
    let leaf = |is_ca: IsCa| {
        let mut params = params("leaf", &[]);
        params.is_ca = is_ca;
        issued(&ca, params).der().clone()
    };
    let found = |certificate: &CertificateDer<'static>| {
        anchors(&placed(&[certificate]), Anchors::OfClients, now())
    };
    assert_found(&found(ca.der()), &[]);
    let words =
        "warning: 1 is not a CA certificate (it has no basicConstraints): it authorizes only";
    assert_found(&found(&leaf(IsCa::NoCa)), &[words]);
    let words = "warning: 1 is not a CA certificate: it authorizes only";
    assert_found(&found(&leaf(IsCa::ExplicitNoCa)), &[words]);
    // Only a self-signed certificate can be the server's own.
    assert_found(&anchors(&placed(&[&leaf(IsCa::NoCa)]), SERVERS, now()), &[]);
}

#[test]
fn f11_an_anchor_that_is_not_valid_now_gets_a_warning() {
    let found = |role, begin: i64, end: i64| {
        let ca = authority("ca", |params: &mut CertificateParams| {
            params.not_before = now() + Duration::days(begin);
            params.not_after = now() + Duration::days(end);
        });
        anchors(&placed(&[ca.der()]), role, now())
    };
    for (role, refused) in [(Anchors::OfClients, "every client"), (SERVERS, "every server")] {
        for (begin, end) in [(-1, 1), (-1, 0), (0, 1)] {
            assert_found(&found(role, begin, end), &[]);
        }
        let expired = format!("warning: 1 expired on 2024-10-03, so {refused} that depends on it");
        assert_found(&found(role, -9, -1), &[&expired]);
        let early = format!("warning: 1 is not valid before 2024-10-05, so {refused} that depends");
        assert_found(&found(role, 1, 9), &[&early]);
    }
}

#[test]
fn f11_a_key_that_tls_cannot_use_is_named() {
    let pkcs8 = |oid: &[u8]| {
        let fields = [vec![2, 1, 0], sequence(&der(0x06, oid)), der(0x04, &[])];
        PrivateKeyDer::Pkcs8(sequence(&fields.concat()).into())
    };
    let ed448 = key(&pkcs8(b"\x2b\x65\x71")).unwrap();
    assert!(ed448.starts_with("it is an Ed448 key, which is not supported"), "{ed448}");
    assert_eq!(key(&pkcs8(b"\x2b\x65\x70")), None, "Ed25519");
}

#[test]
fn f11_a_list_that_does_not_fit_the_cas_and_a_ca_without_a_list_get_a_warning() {
    let usual = |params: &mut CertificateParams| {
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    };
    let (ca, other, namesake) =
        (authority("ca", usual), authority("other", |_| {}), authority("ca", |_| {}));
    // rcgen signs no list with a CA without cRLSign, so another CA with its name and key does.
    let strict = authority("strict", usual);
    let mut without_list_sign = params("strict", &[]);
    without_list_sign.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    without_list_sign.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let without_list_sign = Authority::self_signed(without_list_sign, copy(strict.key())).unwrap();
    let leaf = authority("ca", |params| params.is_ca = IsCa::ExplicitNoCa);
    let check = |all: &[&Authority], of: &[&Authority], cas: &[&str], crls: &[&str]| {
        let all: Vec<_> = all.iter().map(|it| it.der()).collect();
        let of: Vec<_> =
            of.iter().enumerate().map(|(index, it)| (at(index + 1), list(it, -1, 1))).collect();
        let (of_anchors, of_lists) = lists(&placed(&all), &of);
        assert_found(&of_anchors, cas);
        assert_found(&of_lists, crls);
    };
    check(&[&ca, &other], &[&ca, &other], &[], &[]);
    check(&[&ca], &[], &[], &[]);
    check(&[&ca, &other], &[&ca], &["warning: 2 has no CRL in the file that `client-crl`"], &[]);
    check(&[&strict], &[&strict], &[], &[]);
    check(&[&without_list_sign], &[&strict], &["warning: 1 has no cRLSign in its key usage"], &[]);
    let stranger = "warning: 2 is a CRL of `CN=other`, which is not one of the CAs";
    check(&[&ca], &[&ca, &other], &[], &[stranger]);
    check(&[&ca], &[&namesake], &[], &["warning: 1 is a CRL that is not signed by the CA that"]);
    let without = ["warning: 1 has no CRL in the", "warning: 2 has no CRL in the"];
    check(&[&ca, &namesake, &other], &[&other], &without, &[]);
    check(&[&ca, &leaf], &[&ca], &[], &[]);
    check(&[&leaf, &ca], &[&ca], &[], &[]);
}

#[test]
fn f11_a_list_of_a_kind_that_is_not_supported_is_an_error() {
    let ca = authority("ca", |_| {});
    let plain = list(&ca, -1, 1);
    // The last field has the extensions.
    let with = |number: u8, content: &[u8]| {
        let extension = [der(0x06, &[0x55, 0x1d, number]), vec![1, 1, 0xff], der(0x04, content)];
        let extensions = der(0xa0, &sequence(&sequence(&extension.concat())));
        changed(&plain, ca.key(), |fields| *fields.last_mut().unwrap() = extensions)
    };
    let version_1 = changed(&plain, ca.key(), |fields| {
        fields.pop();
        fields.remove(0);
    });
    for (list, expected) in [
        (plain.clone(), &[][..]),
        (version_1, &["error: 1 is a CRL of version 1, which is not supported"]),
        (with(27, &[2, 1, 1]), &["error: 1 is a delta CRL, which is not supported"]),
        (with(28, &sequence(&[0x84, 1, 0xff])), &["error: 1 is an indirect CRL, which is not"]),
        (with(28, &sequence(&[0x81, 1, 0xff])), &[]),
    ] {
        assert_found(&lists(&placed(&[ca.der()]), &[(at(1), list)]).1, expected);
    }
}

#[test]
fn f11_lists_of_different_scopes_do_not_replace_each_other() {
    let ca = authority("ca", |_| {});
    let of_scope = |scope, begin: i64, end: i64| {
        fixtures::list(&ca, |params| {
            let distribution_point =
                CrlDistributionPoint { uris: vec!["http://ca.example/list".to_owned()] };
            params.issuing_distribution_point =
                Some(CrlIssuingDistributionPoint { distribution_point, scope: Some(scope) });
            params.this_update = now() + Duration::days(begin);
            params.next_update = now() + Duration::days(end);
        })
    };
    let all = [
        (at(1), of_scope(CrlScope::CaCertsOnly, -9, -1)),
        (at(2), of_scope(CrlScope::UserCertsOnly, -2, 5)),
        (at(3), of_scope(CrlScope::UserCertsOnly, -9, -1)),
    ];
    assert_found(&expired_lists(&all, now()), &["warning: 1 is a CRL that expired on 2024-10-03"]);
}
