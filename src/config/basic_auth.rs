//! The credentials of HTTP Basic: `[default] auth`.

use std::fmt;

use base64::Engine as _;

use super::values::{Parsed, is_digits};

/// `[default] auth = user:password`. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// The user: the text up to the first colon.
    pub user: String,
    /// The password: the text after the first colon.
    pub password: Password,
}

/// A password, as the file has it.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The password in plain text.
    Plain(String),
    /// A bcrypt hash, `$2a$`, `$2b$` or `$2y$`.
    Bcrypt(String),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BasicAuth(…)")
    }
}

/// `user:password`. The messages never show it.
pub(super) fn parse(value: &str) -> Parsed<BasicAuth> {
    let (user, password) =
        value.split_once(':').ok_or("must be `user:password`; the `:` is missing")?;
    if user.is_empty() {
        return Err("must be `user:password`; the user is empty".to_owned());
    }
    if password.is_empty() {
        return Err("must be `user:password`; the password is empty".to_owned());
    }
    Ok(BasicAuth { user: user.to_owned(), password: self::password(password)? })
}

fn password(password: &str) -> Parsed<Password> {
    let hash = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| password.strip_prefix(prefix));
    match hash {
        None if OTHER_HASHES.iter().any(|prefix| password.starts_with(prefix)) => Err(
            "the password looks like a hash, but only bcrypt hashes are supported: create one with \
             `htpasswd -nbBC 10 USER PASSWORD`"
                .to_owned(),
        ),
        None => Ok(Password::Plain(password.to_owned())),
        Some(hash) if !is_bcrypt(hash) => {
            Err("the password looks like a bcrypt hash but is not valid: expected `$2b$`, a two-digit cost \
             from 04 to 31, `$`, and 53 characters of `A-Za-z0-9./`"
                .to_owned())
        }
        Some(hash) if !can_be_decoded(hash) => Err(
            "the bcrypt hash cannot be decoded, so no password matches it: \
             create a new one with `htpasswd -nbBC 10 USER PASSWORD`"
                .to_owned(),
        ),
        Some(_) => Ok(Password::Bcrypt(password.to_owned())),
    }
}

/// How other hashes of crypt(3), Apache and LDAP begin. As plain passwords they would match nothing
/// that anyone types.
const OTHER_HASHES: [&str; 12] = [
    "$1$", "$2$", "$2x$", "$5$", "$6$", "$7$", "$y$", "$gy$", "$apr1$", "$argon2", "{SHA}",
    "{SSHA}",
];

/// Whether bcrypt can decode salt and digest: the last character of each has bits that must be
/// zero. bcrypt itself decodes them only to verify a password, so a typing error would show up
/// late. `hash` is what follows `$2b$`. [`is_bcrypt`] must be true for it.
fn can_be_decoded(hash: &str) -> bool {
    const SALT: usize = 22;
    let (salt, digest) = hash["10$".len()..].split_at(SALT);
    [salt, digest].iter().all(|part| bcrypt::BASE_64.decode(part).is_ok())
}

/// Whether `hash` is what follows `$2b$`: cost, `$`, salt and digest.
fn is_bcrypt(hash: &str) -> bool {
    let Some((cost, digest)) = hash.split_once('$') else {
        return false;
    };
    cost.len() == 2
        && is_digits(cost)
        && ("04"..="31").contains(&cost)
        && digest.len() == 53
        && digest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f28_a_hash_that_bcrypt_cannot_decode_is_refused() {
        // The last characters of salt and digest have bits that must be zero.
        let (salt, digest) = ("zVHmKQtGGQob.b/Nc7l9NO", "8yLlrW05cj/ixGqSNKMHJBXwKHMqNhK");
        let of = |salt: &str, digest: &str| password(&format!("$2y$04${salt}{digest}"));
        let changed = |text: &str, last: &str| format!("{}{last}", &text[..text.len() - 1]);
        assert!(matches!(of(salt, digest), Ok(Password::Bcrypt(_))));
        for (salt, digest) in [
            (changed(salt, "P"), digest.to_owned()),
            (salt.to_owned(), changed(digest, "L")),
            (salt.to_owned(), digest[1..].to_owned()),
            (salt.to_owned(), format!("{digest}a")),
            (changed(salt, "+"), digest.to_owned()),
            (changed(salt, "="), digest.to_owned()),
        ] {
            assert!(of(&salt, &digest).is_err(), "{salt} {digest}");
        }
        for cost in ["03", "32", "4", "004", "xx"] {
            assert!(password(&format!("$2y${cost}${salt}{digest}")).is_err(), "{cost}");
        }
        for other in
            ["$2x$04$", "$1$", "$5$", "$6$rounds=5000$", "$apr1$", "{SHA}", "$argon2id$v=19$"]
        {
            assert!(password(&format!("{other}{salt}{digest}")).is_err(), "{other}");
        }
        for plain in ["$", "$$", "$ecret", "2b$04$", "{SHA", "$2"] {
            assert!(matches!(password(plain), Ok(Password::Plain(_))), "{plain}");
        }
    }

    #[test]
    fn bcrypt_hashes_are_distinguished_from_passwords() {
        // The last characters of salt and digest have bits that must be 0.
        let hash = format!("$2b$12$./{}u{}", "a".repeat(19), "a".repeat(31));
        let parsed = parse(&format!("u:{hash}"));
        let bcrypt = BasicAuth { user: "u".to_owned(), password: Password::Bcrypt(hash.clone()) };
        assert_eq!(parsed, Ok(bcrypt));
        let plain = parse("u:a:b$2b$").map(|auth| auth.password);
        assert_eq!(plain, Ok(Password::Plain("a:b$2b$".to_owned())));
        for bad in [
            format!("u:{}", &hash[..59]),
            format!("u:{hash}a"),
            format!("u:$2y$03${}", "a".repeat(53)),
            format!("u:$2a$32${}", "a".repeat(53)),
            format!("u:$2a$12${}-", "a".repeat(52)),
            "u".to_owned(),
            ":p".to_owned(),
            "u:".to_owned(),
        ] {
            let message = parse(&bad).err().unwrap_or_default();
            assert!(!message.is_empty() && !message.contains("aaa"), "{bad}");
        }
    }
}
