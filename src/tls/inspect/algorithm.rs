//! Finds keys that TLS cannot use here.
//!
//! rustls and webpki with aws-lc-rs support RSA keys of 2048 to 8192 bits, ECDSA keys on P-256,
//! P-384 and P-521, and Ed25519 keys.

use rustls::pki_types::PrivateKeyDer;
use x509_parser::{
    asn1_rs::{Any, FromDer as _, Oid, Tag, oid},
    x509::SubjectPublicKeyInfo,
};

const RSA: Oid<'_> = oid!(1.2.840.113549.1.1.1);
const RSA_PSS: Oid<'_> = oid!(1.2.840.113549.1.1.10);
const DSA: Oid<'_> = oid!(1.2.840.10040.4.1);
const ED448: Oid<'_> = oid!(1.3.101.113);
const EC: Oid<'_> = oid!(1.2.840.10045.2.1);
const CURVES: [Oid<'_>; 3] = [oid!(1.2.840.10045.3.1.7), oid!(1.3.132.0.34), oid!(1.3.132.0.35)];
const SECP256K1: Oid<'_> = oid!(1.3.132.0.10);

const SHORTEST_RSA: usize = 2048;
const LONGEST_RSA: usize = 8192;

/// What to do instead.
const INSTEAD: &str = "use an ECDSA P-256 key or an RSA key of 2048 bits or more";

/// The problem of a certificate's key, if it has one.
pub(super) fn of_public(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let bits = || {
        let modulus = elements(Any::from_der(&key.subject_public_key.data).ok()?.1.data)?;
        modulus.first().map(bits_of)
    };
    of(&key.algorithm.algorithm, key.algorithm.parameters.as_ref(), bits)
}

/// The problem of a private key. `None` also if the key cannot be parsed.
pub(super) fn of_private(key: &PrivateKeyDer<'_>) -> Option<String> {
    let (_, sequence) = Any::from_der(key.secret_der()).ok()?;
    let fields = elements(sequence.data)?;
    if let PrivateKeyDer::Pkcs1(_) = key {
        return of_rsa(bits_of(fields.get(1)?));
    }
    if let PrivateKeyDer::Sec1(_) = key {
        // RFC 5915 §3: version, key, then the curve in [0].
        let tagged = fields.get(2).filter(|field| field.tag() == Tag(0))?;
        return of_curve(elements(tagged.data)?.first());
    }
    // RFC 5958 §2: version, algorithm, key.
    let [_, algorithm, inner, ..] = &fields[..] else { return None };
    let algorithm = elements(algorithm.data)?;
    let oid = algorithm.first()?.clone().oid().ok()?;
    let bits = || {
        let fields = elements(Any::from_der(inner.data).ok()?.1.data)?;
        fields.get(1).map(bits_of)
    };
    of(&oid, algorithm.get(1), bits)
}

fn of(
    algorithm: &Oid<'_>,
    parameters: Option<&Any<'_>>,
    rsa_bits: impl FnOnce() -> Option<usize>,
) -> Option<String> {
    if *algorithm == RSA {
        of_rsa(rsa_bits()?)
    } else if *algorithm == EC {
        of_curve(parameters)
    } else if *algorithm == RSA_PSS {
        Some(format!(
            "an RSA-PSS key (id-RSASSA-PSS), which is not supported: {INSTEAD} (`openssl genpkey \
             -algorithm RSA`, not RSA-PSS)"
        ))
    } else if *algorithm == DSA {
        Some(format!("a DSA key, which is not supported: {INSTEAD}"))
    } else if *algorithm == ED448 {
        Some(format!("an Ed448 key, which is not supported: {INSTEAD}"))
    } else {
        None
    }
}

fn of_rsa(bits: usize) -> Option<String> {
    if bits < SHORTEST_RSA {
        Some(format!("an RSA key of {bits} bits, which is too short: {INSTEAD}"))
    } else if bits > LONGEST_RSA {
        Some(format!(
            "an RSA key of {bits} bits, which is too long: at most {LONGEST_RSA} are supported"
        ))
    } else {
        None
    }
}

fn of_curve(curve: Option<&Any<'_>>) -> Option<String> {
    let curve = curve?;
    if curve.tag() == Tag::Sequence {
        return Some(
            "an EC key with explicit curve parameters, which are not supported: generate one on a \
             named curve (`openssl ecparam -name prime256v1 -param_enc named_curve -genkey`)"
                .to_owned(),
        );
    }
    let curve = curve.clone().oid().ok()?;
    if CURVES.contains(&curve) {
        return None;
    }
    let name = if curve == SECP256K1 { "curve secp256k1" } else { "a curve" };
    Some(format!(
        "an EC key on {name}, which is not supported: use P-256 (prime256v1), P-384 or P-521"
    ))
}

/// The elements of a SEQUENCE, from its contents.
fn elements(mut bytes: &[u8]) -> Option<Vec<Any<'_>>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (rest, element) = Any::from_der(bytes).ok()?;
        all.push(element);
        bytes = rest;
    }
    Some(all)
}

/// The number of bits of an INTEGER.
fn bits_of(number: &Any<'_>) -> usize {
    let digits = number.data.iter().skip_while(|byte| **byte == 0);
    let length = digits.clone().count() * 8;
    length - digits.clone().next().map_or(0, |first| first.leading_zeros() as usize)
}
