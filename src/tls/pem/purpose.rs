//! The purpose of a file, which decides which of its blocks are used. Every other block gets a
//! remark.

use rustls::pki_types::PrivateKeyDer;
use x509_parser::parse_x509_crl;

use super::{
    block::{Block, BlockPlace, Damage},
    label::BlockKind,
    scan::blocks,
    trusted::{Settings, split},
};

/// What a PEM file is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// CA certificates that sign client certificates.
    ClientAuthorities,
    /// CA certificates that sign server certificates.
    ServerAuthorities,
    /// The own certificate, followed by the intermediate CA certificates.
    Chain,
    /// The private key of the own certificate.
    Key,
    /// Certificate revocation lists.
    RevocationLists,
}

impl Purpose {
    /// What the file must contain, in the words of messages.
    fn noun(self) -> &'static str {
        match self {
            Self::ClientAuthorities | Self::ServerAuthorities | Self::Chain => "certificate",
            Self::Key => "private key",
            Self::RevocationLists => "CRL",
        }
    }

    fn uses(self, kind: BlockKind) -> bool {
        match self {
            Self::ClientAuthorities | Self::ServerAuthorities | Self::Chain => {
                matches!(kind, BlockKind::Certificate | BlockKind::TrustedCertificate)
            }
            Self::Key => kind == BlockKind::Key,
            Self::RevocationLists => kind == BlockKind::RevocationList,
        }
    }
}

/// The contents of a file that was read for a purpose.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents {
    /// The blocks that are used, in DER form and in file order.
    pub used: Vec<(BlockPlace, Vec<u8>)>,
    /// Problems, and blocks that are not used.
    pub remarks: Vec<Remark>,
    /// Whether a private key is among the blocks, used or not.
    pub holds_key: bool,
}

/// A remark about a block that is not used, or about the whole file.
#[derive(Debug, PartialEq, Eq)]
pub struct Remark {
    /// Whether the remark is an error, because trust, a revocation or a key may be missing.
    pub is_error: bool,
    /// The problem, and what to do.
    pub text: String,
    /// The purpose for which the block would be used, if the file were read for that purpose too.
    pub belongs_to: Option<Purpose>,
}

impl Remark {
    fn error(text: String) -> Self {
        Self { is_error: true, text, belongs_to: None }
    }

    fn warning(text: String) -> Self {
        Self { is_error: false, ..Self::error(text) }
    }

    fn belongs_to(self, purpose: Purpose) -> Self {
        Self { belongs_to: Some(purpose), ..self }
    }
}

/// Reads a file for `purpose`.
///
/// Each block is used or gets a remark. The only exception is `EC PARAMETERS` in a key file:
/// OpenSSL writes this block before each EC key, and the key contains the same parameters.
#[must_use]
pub fn read(bytes: &[u8], purpose: Purpose) -> Contents {
    let mut contents = Contents { used: Vec::new(), remarks: Vec::new(), holds_key: false };
    let blocks = blocks(bytes);
    let is_empty = blocks.is_empty();
    for Block { place, contents: block } in blocks {
        let kind = BlockKind::of(&place.label);
        contents.holds_key |= kind.is_key();
        match (block, kind) {
            (Err(Damage::Encrypted) | Ok(_), BlockKind::EncryptedKey)
            | (Err(Damage::Encrypted), _) => {
                contents.remarks.extend(not_used(&place, BlockKind::EncryptedKey, purpose));
            }
            (Err(damage @ Damage::CommentedOut), _) => {
                contents.remarks.push(Remark::warning(format!("{place} {damage}")));
            }
            (Err(damage), _) => contents.remarks.push(Remark::error(format!("{place} {damage}"))),
            (Ok(der), kind) if purpose.uses(kind) => match usable(kind, purpose, der) {
                Ok(der) => contents.used.push((place, der)),
                Err(problem) => contents.remarks.push(Remark::error(format!("{place} {problem}"))),
            },
            (Ok(_), kind) => contents.remarks.extend(not_used(&place, kind, purpose)),
        }
    }
    let explains_all = contents.remarks.iter().any(|it| it.is_error && it.belongs_to.is_none());
    if contents.used.is_empty() && !explains_all {
        let hint = if is_empty { hint(bytes) } else { "" };
        let noun = purpose.noun();
        contents.remarks.push(Remark::error(format!("contains no {noun} in PEM format{hint}")));
    }
    contents
}

/// The DER form of a block of the right kind, or what is wrong with the block.
fn usable(kind: BlockKind, purpose: Purpose, der: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    match kind {
        BlockKind::Certificate => match split(&der) {
            Some((_, [])) => Ok(der),
            Some(_) | None => Err("cannot be read as a certificate"),
        },
        BlockKind::TrustedCertificate => {
            let (certificate, rest) = split(&der).ok_or("cannot be read as a certificate")?;
            let settings =
                Settings::of(rest).ok_or("has OpenSSL trust settings that cannot be read")?;
            let trusted = match purpose {
                Purpose::ClientAuthorities => settings.trusts_clients(),
                Purpose::ServerAuthorities => settings.trusts_servers(),
                Purpose::Chain | Purpose::Key | Purpose::RevocationLists => true,
            };
            if trusted { Ok(certificate.to_owned()) } else { Err(DISTRUSTED) }
        }
        BlockKind::RevocationList => match parse_x509_crl(&der) {
            Ok(([], _)) => Ok(der),
            Ok(_) | Err(_) => Err("cannot be read as a CRL"),
        },
        BlockKind::Key
        | BlockKind::EncryptedKey
        | BlockKind::ForeignKey
        | BlockKind::Envelope
        | BlockKind::EcParameters
        | BlockKind::SigningRequest
        | BlockKind::Harmless
        | BlockKind::Unknown => Ok(der),
    }
}

const DISTRUSTED: &str = "is marked as not trusted for this purpose by its OpenSSL trust settings: \
     remove the block, or remove the settings with `openssl x509 -in FILE -out NEW`";

/// The remark about a block that is not for the file's purpose.
fn not_used(place: &BlockPlace, kind: BlockKind, purpose: Purpose) -> Option<Remark> {
    use Purpose::{Chain, ClientAuthorities, Key, RevocationLists, ServerAuthorities};
    let is_of_certificates = matches!(purpose, ClientAuthorities | ServerAuthorities | Chain);
    let warning = |text: &str| Some(Remark::warning(format!("{place} {text}")));
    let error = |text: &str| Some(Remark::error(format!("{place} {text}")));
    match kind {
        BlockKind::EncryptedKey if purpose == Key => error(
            "is an encrypted private key, which cannot be used: \
             decrypt it with `openssl pkey -in FILE -out NEW`",
        ),
        BlockKind::ForeignKey if purpose == Key => error(
            "is a private key that TLS cannot use: generate an ECDSA or RSA key in PKCS #8 format",
        ),
        BlockKind::Key | BlockKind::EncryptedKey | BlockKind::ForeignKey => {
            warning("is a private key, which is not used here").map(|it| it.belongs_to(Key))
        }
        BlockKind::Certificate | BlockKind::TrustedCertificate if purpose == Key => {
            warning("is a certificate, which is not used here").map(|it| it.belongs_to(Chain))
        }
        BlockKind::Certificate | BlockKind::TrustedCertificate => {
            warning("is a certificate, which is not used here")
                .map(|it| it.belongs_to(ClientAuthorities))
        }
        BlockKind::RevocationList if purpose == ClientAuthorities => {
            error("is a CRL, which is not used here: put it into the file that `client-crl` names")
                .map(|it| it.belongs_to(RevocationLists))
        }
        BlockKind::RevocationList if purpose == ServerAuthorities => {
            error("is a CRL, and CRLs of servers are not supported: remove the block")
        }
        BlockKind::RevocationList => warning("is a CRL, which is not used here"),
        BlockKind::Envelope if is_of_certificates => error(
            "is a PKCS #7 file, which cannot be used: \
             convert it with `openssl pkcs7 -print_certs -in FILE -out NEW`",
        ),
        BlockKind::EcParameters if purpose == Key => None,
        BlockKind::EcParameters => warning("is not used here").map(|it| it.belongs_to(Key)),
        BlockKind::SigningRequest => warning("is a signing request, which is not used here"),
        BlockKind::Envelope | BlockKind::Harmless => warning("is not used here"),
        BlockKind::Unknown => error("has an unknown label: remove the block, or correct the label"),
    }
}

/// A hint about a file that has no block at all.
fn hint(bytes: &[u8]) -> &'static str {
    if matches!(bytes, [0x30, 0x81..=0x84, ..]) {
        ": it seems to be in DER format; convert it with `openssl x509 -inform der -in FILE -out NEW` \
         (a key with `openssl pkey`, a CRL with `openssl crl`)"
    } else {
        ""
    }
}

/// The private key of a file, which may contain other blocks too.
///
/// # Errors
/// All problems of the file, in one text.
pub fn private_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let contents = read(bytes, Purpose::Key);
    contents.check()?;
    contents.into_key()
}

impl Contents {
    /// Checks that no remark is an error.
    ///
    /// # Errors
    /// All errors, in one text.
    pub fn check(&self) -> Result<(), String> {
        let errors = self.remarks.iter().filter(|remark| remark.is_error);
        let errors: Vec<&str> = errors.map(|remark| remark.text.as_str()).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    /// The private key of a file that was read for [`Purpose::Key`].
    ///
    /// # Errors
    /// The file has no key, or several keys, so that it is unclear which one is meant.
    pub fn into_key(self) -> Result<PrivateKeyDer<'static>, String> {
        let mut keys = self.used.into_iter();
        let Some((place, der)) = keys.next() else {
            return Err("contains no private key in PEM format".to_owned());
        };
        if let Some((second, _)) = keys.next() {
            return Err(format!(
                "{place} and {second} are both private keys: leave only the one that belongs to \
                 the certificate"
            ));
        }
        Ok(match place.label.as_str() {
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
            _ => PrivateKeyDer::Pkcs8(der.into()),
        })
    }
}
