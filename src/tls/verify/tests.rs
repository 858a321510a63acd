//! Decisions about certificates, at a fixed time. `tests/tls` has the handshakes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CrlIssuingDistributionPoint,
    CrlScope, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use time::{Duration, OffsetDateTime};

use super::*;
use crate::{
    common::error::certificate::{CertificateFault, Link, Purpose},
    tls::{
        fixtures::{
            Authority, authority, changed, copy, issued, list, now, params, self_signed, version1,
        },
        provider,
    },
};

const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

fn trusting(anchors: &[&CertificateDer<'static>], lists: &[Vec<u8>]) -> Trust {
    Trust::new(
        anchors.iter().map(|&anchor| anchor.clone()).collect(),
        lists.iter().map(|list| list.clone().into()).collect(),
        provider().signature_verification_algorithms,
    )
    .unwrap()
}

/// Verifies a chain now, leaf first.
fn verified(
    trust: &Trust,
    role: Role<'_>,
    chain: &[&CertificateDer<'static>],
) -> Result<(), CertificateFault> {
    let seconds = u64::try_from(now().unix_timestamp()).unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let others: Vec<_> = chain[1..].iter().map(|&der| der.clone()).collect();
    trust.verify(role, chain[0], &others, now)
}

/// A certificate of version 1 with these parameters.
fn old(issuer: &Authority, params: CertificateParams) -> CertificateDer<'static> {
    version1(issued(issuer, params).der(), issuer.key()).into()
}

/// A list that revokes one certificate.
fn revoking(issuer: &Authority, serial: u64) -> Vec<u8> {
    list(issuer, |params| {
        params.revoked_certs.push(RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: now(),
            reason_code: None,
            invalidity_date: None,
        });
    })
}

fn name(name: &str) -> ServerName<'static> {
    name.to_owned().try_into().unwrap()
}

#[test]
fn an_anchor_that_is_the_peer_itself_needs_the_usage_of_its_role_if_it_has_usages() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, OcspSigning, ServerAuth};
    for (usages, serves_clients, serves_servers) in [
        (vec![], true, true),
        (vec![ClientAuth], true, false),
        (vec![ServerAuth], false, true),
        (vec![ClientAuth, ServerAuth], true, true),
        (vec![Any], true, true),
        (vec![OcspSigning], false, false),
    ] {
        let mut params = params("node", &["node.example"]);
        params.extended_key_usages.clone_from(&usages);
        let anchor = self_signed(&params);
        let trust = trusting(&[&anchor], &[]);
        let server = name("node.example");
        for (role, purpose, serves) in [
            (Role::Client, Purpose::Client, serves_clients),
            (Role::Server(&server), Purpose::Server, serves_servers),
        ] {
            let expected = if serves { Ok(()) } else { Err(CertificateFault::Purpose(purpose)) };
            assert_eq!(verified(&trust, role, &[&anchor]), expected, "{usages:?} {role:?}");
        }
    }
}

#[test]
fn a_server_needs_the_name_that_the_client_connected_to() {
    let ca = authority("ca", |_| {});
    let of_names = |names: &[&str]| issued(&ca, params("node.example", names)).der().clone();
    let of_common_name = |common_name| old(&ca, params(common_name, &[]));
    let trust = trusting(&[ca.der()], &[]);
    for (certificate, expected, presented) in [
        (of_names(&["a.example", "192.0.2.1"]), "a.example", None),
        (of_names(&["a.example", "192.0.2.1"]), "192.0.2.1", None),
        (of_names(&["a.example", "192.0.2.1"]), "b.example", Some(&["a.example", "192.0.2.1"][..])),
        (of_names(&["a.example"]), "192.0.2.1", Some(&["a.example"])),
        (of_names(&[]), "node.example", Some(&[])),
        (of_common_name("Node.example"), "node.example", None),
        (of_common_name("Node.example"), "a.node.example", Some(&["Node.example"])),
        (of_common_name("192.0.2.1"), "192.0.2.1", None),
        (of_common_name("192.0.2.1"), "192.0.2.2", Some(&["192.0.2.1"])),
        (of_common_name("2001:DB8::1"), "2001:db8:0::1", None),
    ] {
        let outcome = verified(&trust, Role::Server(&name(expected)), &[&certificate]);
        let refused = presented.map_or(Ok(()), |presented| {
            Err(CertificateFault::Name {
                expected: expected.to_owned(),
                presented: presented.iter().map(|&name| name.to_owned()).collect(),
            })
        });
        assert_eq!(outcome, refused, "{expected}");
    }
}

#[test]
fn f09_a_version_1_certificate_has_no_field_of_a_later_version_and_one_algorithm() {
    // In DER: the number of version 2, a unique identifier without its tag, ecdsa-with-SHA384.
    const VERSION_2: &[u8] = b"\xa0\x03\x02\x01\x01";
    const IDENTIFIER: &[u8] = b"\x02\x00\x01";
    const OTHER_ALGORITHM: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03";

    let ca = authority("ca", |_| {});
    let trust = trusting(&[ca.der()], &[]);
    let whole = issued(&ca, params("client", &["client.example"]));
    let plain = version1(whole.der(), ca.key());
    let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| changed(&plain, ca.key(), change);
    let with_identifier = |tag| with(&|fields| fields.push([&[tag], IDENTIFIER].concat()));
    let with_extensions = changed(whole.der(), ca.key(), |fields| drop(fields.remove(0)));
    let version_2 = with(&|fields| fields.insert(0, VERSION_2.to_vec()));
    let two_algorithms = with(&|fields| fields[1] = OTHER_ALGORITHM.to_vec());
    for (what, der, expected) in [
        ("nothing", plain.clone(), Ok(())),
        ("version 2", version_2, Err(CertificateFault::Version)),
        ("an issuer's identifier", with_identifier(0x81), Err(CertificateFault::Version)),
        ("a subject's identifier", with_identifier(0x82), Err(CertificateFault::Version)),
        ("extensions", with_extensions, Err(CertificateFault::Version)),
        ("two algorithms", two_algorithms, Err(CertificateFault::Unreadable)),
        ("a byte behind", [&plain[..], &[0]].concat(), Err(CertificateFault::Unreadable)),
    ] {
        assert_eq!(verified(&trust, Role::Client, &[&der.into()]), expected, "{what}");
    }
}

#[test]
fn f09_version_1_and_version_3_need_a_valid_ca_and_no_revocation() {
    use CertificateFault::{Expired, NameConstraints, NoList, NotACa, Revoked};
    let ends = now() - Duration::DAY;
    let end = ends.unix_timestamp();
    let (ca, other) = (authority("ca", |_| {}), authority("other", |_| {}));
    let no_ca = authority("ca", |params| params.is_ca = IsCa::ExplicitNoCa);
    let expired = authority("ca", |params| params.not_after = ends);
    let constrained = authority("ca", |params| {
        params.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example".to_owned())],
            excluded_subtrees: vec![],
        });
    });
    let valid = || {
        let mut params = params("client", &[]);
        params.serial_number = Some(SerialNumber::from(7));
        params
    };
    let mut invalid = valid();
    invalid.not_after = ends;
    for (what, issuer, leaf, lists, of_version_1, of_version_3) in [
        ("a CA", &ca, valid(), vec![], Ok(()), Ok(())),
        ("no CA", &no_ca, valid(), vec![], Err(NotACa), Err(NotACa)),
        (
            "an expired CA",
            &expired,
            valid(),
            vec![],
            Err(Expired(Link::Anchor, end)),
            Err(Expired(Link::Anchor, end)),
        ),
        (
            "an expired certificate",
            &ca,
            invalid,
            vec![],
            Err(Expired(Link::Leaf, end)),
            Err(Expired(Link::Leaf, end)),
        ),
        ("name constraints", &constrained, valid(), vec![], Err(NameConstraints), Ok(())),
        ("a list", &ca, valid(), vec![list(&ca, |_| {})], Ok(()), Ok(())),
        ("revoked", &ca, valid(), vec![revoking(&ca, 7)], Err(Revoked), Err(Revoked)),
        ("no list", &ca, valid(), vec![list(&other, |_| {})], Err(NoList), Err(NoList)),
    ] {
        let trust = trusting(&[issuer.der()], &lists);
        let version_3 = issued(issuer, leaf);
        let version_1 = version1(version_3.der(), issuer.key()).into();
        assert_eq!(verified(&trust, Role::Client, &[&version_1]), of_version_1, "{what}");
        assert_eq!(verified(&trust, Role::Client, &[version_3.der()]), of_version_3, "{what}");
    }
}

#[test]
fn f09_a_version_1_certificate_below_an_intermediate_of_our_ca_is_refused_for_this_reason() {
    let (ca, stranger) = (authority("ca", |_| {}), authority("stranger", |_| {}));
    let below = |issuer: &Authority, name: &str| {
        let mut params = params(name, &[]);
        params.is_ca = CA;
        issued(issuer, params)
    };
    let intermediate = below(&ca, "intermediate");
    let same_name = below(&ca, "intermediate");
    let mut renamed = params("renamed", &[]);
    renamed.is_ca = CA;
    let renamed = Authority::signed_by(renamed, copy(intermediate.key()), &ca).unwrap();
    let of_stranger = below(&stranger, "intermediate");
    let trust = trusting(&[ca.der()], &[]);
    for (what, issuer, shown, expected) in [
        ("its issuer", &intermediate, &intermediate, CertificateFault::Version1BelowIntermediate),
        ("another key", &intermediate, &same_name, CertificateFault::UnknownIssuer),
        ("another name", &intermediate, &renamed, CertificateFault::UnknownIssuer),
        ("an issuer below another CA", &of_stranger, &of_stranger, CertificateFault::UnknownIssuer),
    ] {
        let leaf = old(issuer, params("client", &[]));
        let outcome = verified(&trust, Role::Client, &[&leaf, shown.der()]);
        assert_eq!(outcome, Err(expected), "{what}");
    }
    let of_ca = old(&ca, params("client", &[]));
    assert_eq!(verified(&trust, Role::Client, &[&of_ca]), Ok(()));
}

#[test]
fn f09_a_version_1_certificate_is_looked_up_by_its_serial_number_in_the_list_of_its_issuer() {
    let (ca, other) = (authority("ca", |_| {}), authority("other", |_| {}));
    let namesake = authority("ca", |_| {});
    let mut client = params("client", &[]);
    client.serial_number = Some(SerialNumber::from(7));
    let leaf = old(&ca, client);
    let of_scope = |scope| {
        list(&ca, |params| {
            let distribution_point =
                CrlDistributionPoint { uris: vec!["http://ca.example/list".to_owned()] };
            let scope = Some(scope);
            params.issuing_distribution_point =
                Some(CrlIssuingDistributionPoint { distribution_point, scope });
        })
    };
    let expired = list(&ca, |params| params.next_update = now());
    let out_of_date = CertificateFault::ListOutOfDate(now().unix_timestamp());
    for (what, lists, expected) in [
        ("no lists", vec![], Ok(())),
        ("a list of its issuer", vec![list(&ca, |_| {})], Ok(())),
        ("a list with its serial number", vec![revoking(&ca, 7)], Err(CertificateFault::Revoked)),
        ("a list with another serial number", vec![revoking(&ca, 1)], Ok(())),
        ("a list of another CA", vec![list(&other, |_| {})], Err(CertificateFault::NoList)),
        ("two CAs", vec![list(&other, |_| {}), revoking(&ca, 7)], Err(CertificateFault::Revoked)),
        ("only CAs", vec![of_scope(CrlScope::CaCertsOnly)], Err(CertificateFault::NoList)),
        ("only others", vec![of_scope(CrlScope::UserCertsOnly)], Ok(())),
        ("another key", vec![list(&namesake, |_| {})], Err(CertificateFault::ListNotSigned)),
        ("an expired list", vec![expired], Err(out_of_date)),
    ] {
        let trust = trusting(&[ca.der(), other.der()], &lists);
        assert_eq!(verified(&trust, Role::Client, &[&leaf]), expected, "{what}");
    }
}

#[test]
fn the_ends_of_anchors_and_lists_are_known() {
    let until = |days: i64| now() + Duration::days(days);
    let second = OffsetDateTime::unix_timestamp;
    let early = authority("early", |params| params.not_after = until(-5));
    let late = authority("late", |_| {});
    let of = |issuer: &Authority, days| list(issuer, |params| params.next_update = until(days));
    let without_lists = trusting(&[early.der(), late.der()], &[]);
    let with_lists = trusting(&[early.der(), late.der()], &[of(&early, 4), of(&late, 3)]);
    assert_eq!(without_lists.next_update(), None);
    assert_eq!(with_lists.next_update(), Some(second(until(3))));
    let end = second(until(-5));
    for (trust, before, expected) in [
        (&without_lists, end, None),
        (&without_lists, end + 1, Some(end)),
        (&without_lists, second(until(9)), Some(end)),
        (&without_lists, second(until(11)), Some(second(until(10)))),
        // A list is out of date from its `nextUpdate` on.
        (&with_lists, second(until(3)) - 1, Some(end)),
        (&with_lists, second(until(3)), Some(second(until(3)) - 1)),
        (&with_lists, second(until(9)), Some(second(until(4)) - 1)),
    ] {
        assert_eq!(trust.last_end_before(before), expected, "{before}");
    }
}
