//! Certificates with a particular defect.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

/// A CA, or an intermediate CA.
pub type Authority = CertifiedIssuer<'static, KeyPair>;

/// The certificate chain of a client, and the key that it signs with.
pub struct Credentials {
    /// The certificates, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the leaf.
    pub key: KeyPair,
}

/// A client certificate issued by `issuer`, after `change` has modified its parameters. `rest` is
/// the rest of the chain.
pub fn credentials(
    issuer: &Issuer<'_, KeyPair>,
    change: impl FnOnce(&mut CertificateParams),
    rest: &[&Authority],
) -> Credentials {
    let mut params = client_params();
    change(&mut params);
    let key = new_key();
    let leaf = params.signed_by(&key, issuer).expect("a certificate");
    let mut chain = vec![leaf.der().clone()];
    chain.extend(rest.iter().map(|authority| authority.der().clone()));
    Credentials { chain, key }
}

/// A self-signed client certificate.
pub fn self_signed() -> Credentials {
    let key = new_key();
    let leaf = client_params().self_signed(&key).expect("a certificate");
    Credentials { chain: vec![leaf.der().clone()], key }
}

/// A root CA.
pub fn authority(name: &str, key: KeyPair, days: std::ops::Range<i64>) -> Authority {
    let mut params = authority_params(name);
    params.not_before = in_days(days.start);
    params.not_after = in_days(days.end);
    Authority::self_signed(params, key).expect("a CA certificate")
}

/// An intermediate CA below `issuer`.
pub fn intermediate(issuer: &Issuer<'_, KeyPair>, serial: u64) -> Authority {
    let mut params = authority_params("intermediate");
    params.serial_number = Some(SerialNumber::from(serial));
    params.use_authority_key_identifier_extension = true;
    Authority::signed_by(params, new_key(), issuer).expect("a CA certificate")
}

/// The parameters of an intermediate CA that expires at `end`.
pub fn authority_until(end: OffsetDateTime) -> CertificateParams {
    let mut params = authority_params("intermediate");
    params.use_authority_key_identifier_extension = true;
    params.not_after = end;
    params
}

/// A CRL of `issuer` as PEM, valid on these days counted from now.
pub fn revocation_list(
    issuer: &Issuer<'_, KeyPair>,
    serials: &[u64],
    days: std::ops::Range<i64>,
) -> String {
    revocation_list_until(issuer, serials, in_days(days.start), in_days(days.end))
}

/// A CRL of `issuer` as PEM with this validity.
pub fn revocation_list_until(
    issuer: &Issuer<'_, KeyPair>,
    serials: &[u64],
    this_update: OffsetDateTime,
    next_update: OffsetDateTime,
) -> String {
    let revoked_certs = serials
        .iter()
        .map(|&serial| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: in_days(-1),
            reason_code: None,
            invalidity_date: None,
        })
        .collect();
    let params = CertificateRevocationListParams {
        this_update,
        next_update,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).and_then(|list| list.pem()).expect("a CRL")
}

/// The time `days` days from now.
pub fn in_days(days: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::days(days)
}

/// A new key of the kind that rcgen uses by default: ECDSA on P-256.
pub fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn client_params() -> CertificateParams {
    let mut params = CertificateParams::new([]).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, "forged");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
