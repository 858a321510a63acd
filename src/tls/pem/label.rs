//! The kinds of blocks, by their labels.

/// What a block is, by its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    Certificate,
    /// A certificate with OpenSSL's trust settings.
    TrustedCertificate,
    Key,
    EncryptedKey,
    /// DSA keys, and keys in OpenSSH's own format.
    ForeignKey,
    RevocationList,
    /// PKCS #7.
    Envelope,
    EcParameters,
    SigningRequest,
    /// The block contains neither trust nor a key.
    Harmless,
    Unknown,
}

impl BlockKind {
    /// Labels as in RFC 7468 and OpenSSL's include/openssl/pem.h.
    pub(super) fn of(label: &str) -> Self {
        match label {
            "CERTIFICATE" | "X509 CERTIFICATE" => Self::Certificate,
            "TRUSTED CERTIFICATE" => Self::TrustedCertificate,
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Self::Key,
            "ENCRYPTED PRIVATE KEY" => Self::EncryptedKey,
            "DSA PRIVATE KEY" | "OPENSSH PRIVATE KEY" | "ANY PRIVATE KEY" => Self::ForeignKey,
            "X509 CRL" => Self::RevocationList,
            "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => Self::Envelope,
            "EC PARAMETERS" => Self::EcParameters,
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Self::SigningRequest,
            "DH PARAMETERS"
            | "X9.42 DH PARAMETERS"
            | "DSA PARAMETERS"
            | "PUBLIC KEY"
            | "RSA PUBLIC KEY"
            | "ATTRIBUTE CERTIFICATE"
            | "SSL SESSION PARAMETERS" => Self::Harmless,
            _ => Self::Unknown,
        }
    }

    pub(super) fn is_key(self) -> bool {
        matches!(self, Self::Key | Self::EncryptedKey | Self::ForeignKey)
    }
}

/// Whether a block with this label is known, whatever it is for.
pub(super) fn is_known_label(label: &str) -> bool {
    BlockKind::of(label) != BlockKind::Unknown
}
