//! Verifies signatures of certificates and lists. The algorithms are those of the provider, as in
//! webpki: no SHA-1, no MD5, no RSA below 2048 bits.

use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer},
};
use webpki::RawPublicKeyEntity;
use x509_parser::asn1_rs::{Any, FromDer as _, Tag};

/// Something that an issuer has signed: a certificate (RFC 5280 §4.1.1) or a list (§5.1.1).
pub(super) struct Signed<'a> {
    content: &'a [u8],
    /// The contents of the `AlgorithmIdentifier`.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Parses `whole`. `content` is the signed part: the first element of `whole`.
    pub(super) fn new(whole: &'a [u8], content: &'a [u8]) -> Option<Self> {
        let behind = last(Tag::Sequence, whole)?.strip_prefix(content)?;
        let (behind, algorithm) = Any::from_der(behind).ok()?;
        algorithm.tag().assert_eq(Tag::Sequence).ok()?;
        // The first byte is the number of unused bits, which is 0.
        let signature = last(Tag::BitString, behind)?.strip_prefix(&[0])?;
        Some(Self { content, algorithm: algorithm.data, signature })
    }

    /// Whether the owner of the key `spki` made the signature (RFC 5280 §6.1.3 (a) (1)).
    pub(super) fn verify(
        &self,
        spki: &SubjectPublicKeyInfoDer<'_>,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), BadSignature> {
        let key = RawPublicKeyEntity::try_from(spki).map_err(|_| BadSignature::Algorithm)?;
        // An ECDSA algorithm does not determine the curve, so several are tried.
        let named = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
        };
        let mut outcome = Err(BadSignature::Algorithm);
        for algorithm in algorithms.all.iter().filter(named) {
            outcome = match key.verify_signature(*algorithm, self.content, self.signature) {
                Ok(()) => return Ok(()),
                Err(webpki::Error::InvalidSignatureForPublicKey) => Err(BadSignature::OtherKey),
                Err(_) => outcome,
            };
        }
        outcome
    }
}

/// Why a signature is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadSignature {
    /// The algorithm is not supported, or does not fit the key.
    Algorithm,
    /// The signature was made with another key, or the key is too short.
    OtherKey,
}

/// The contents of `der`, which must be a single element with this tag.
fn last(tag: Tag, der: &[u8]) -> Option<&[u8]> {
    let (rest, element) = Any::from_der(der).ok()?;
    element.tag().assert_eq(tag).ok()?;
    rest.is_empty().then_some(element.data)
}
