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
    for other in ["$2x$04$", "$1$", "$5$", "$6$rounds=5000$", "$apr1$", "{SHA}", "$argon2id$v=19$"]
    {
        assert!(password(&format!("{other}{salt}{digest}")).is_err(), "{other}");
    }
    for plain in ["$", "$$", "$ecret", "2b$04$", "{SHA", "$2"] {
        assert!(matches!(password(plain), Ok(Password::Plain(_))), "{plain}");
    }
}

#[test]
fn seconds_are_plain_decimals_up_to_a_day() {
    for (text, millis) in [
        ("5", 5_000),
        ("0.25", 250),
        ("0.001", 1),
        ("007", 7_000),
        ("7.000000000", 7_000),
        ("86400", 86_400_000),
        ("86400.000", 86_400_000),
    ] {
        let budget = Budget::new(Duration::from_millis(millis));
        assert_eq!(seconds(text).ok(), budget, "{text}");
    }
    for text in [
        "0",
        "0.0",
        "-5",
        "+5",
        "1e1",
        "1e9",
        "5 parsecs",
        "5s",
        "NaN",
        "inf",
        "",
        ".",
        "5.",
        ".5",
        "1.2.3",
        "0x5",
        "٥",
        "86400.1",
        "86401",
        "99999999999999999999",
        "1.0000000001",
    ] {
        assert!(seconds(text).is_err(), "{text}");
    }
    assert_eq!(seconds_or_none("0"), Ok(Duration::ZERO));
}

#[test]
fn sizes_have_decimal_and_binary_units() {
    for (text, bytes) in [
        ("1", 1),
        ("17b", 17),
        ("3k", 3_000),
        ("3K", 3_000),
        ("3kB", 3_000),
        ("200MB", 200_000_000),
        ("200 MB", 200_000_000),
        ("2G", 2_000_000_000),
        ("64MiB", 64 << 20),
        ("7m", 7_000_000),
        ("8GB", 8_000_000_000),
        ("1Ki", 1024),
        ("3KiB", 3072),
        ("2Mi", 2_097_152),
        ("1Gi", 1_073_741_824),
        ("1GiB", 1_073_741_824),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "0",
        "0MB",
        "MB",
        "-1",
        "1.5MB",
        "1TB",
        "1MBit",
        "18446744073709551616",
        "99999999999G",
        "1e6",
    ] {
        assert!(size(text).is_err(), "{text}");
    }
}

#[test]
fn f32_an_address_with_a_zone_is_refused_because_of_its_zone() {
    for (text, zone) in [("fe80::1%eth0", "eth0"), ("[fe80::1%eth0]", "eth0"), ("fe80::1%2", "2")] {
        assert_eq!(
            host(text),
            Err(format!(
                "`{text}` has the zone `{zone}`, and zones are not supported; write another \
                 address of that host, or its name"
            ))
        );
        assert!(address(text).is_err_and(|it| it.contains("has a zone")), "{text}");
    }
    assert!(host("50%").is_err_and(|it| !it.contains("zone")));
}

#[test]
fn hosts_are_names_or_addresses_and_nothing_else() {
    for (text, host_name) in [
        ("localhost", "localhost"),
        ("db_1.internal.", "db_1.internal."),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
    ] {
        assert_eq!(host(text).as_deref(), Ok(host_name));
    }
    for text in [
        "",
        ".",
        "a..b",
        "-a",
        "a b",
        "a:9100",
        "http://a",
        "a/b",
        "127.1",
        "999.1.1.1",
        "9",
        "[127.0.0.1]",
        "[::1",
        "::1]",
        "a@b",
        "münchen",
        "*",
    ] {
        assert!(host(text).is_err(), "{text}");
    }
}

#[test]
fn an_advertised_address_may_lack_the_port_but_not_the_brackets() {
    for (text, host, port) in [
        ("a.example", "a.example", None),
        ("a.example:3333", "a.example", Some(3333)),
        ("10.0.0.1", "10.0.0.1", None),
        ("[::1]", "[::1]", None),
        ("[::1]:1", "[::1]", Some(1)),
    ] {
        let port = port.and_then(NonZeroU16::new);
        assert_eq!(advertise(text), Ok(Advertised { host: host.to_owned(), port }));
    }
    for text in
        ["::1", "::1:99999", "a:", "a:0", "a:70000", ":1", "http://a", "[::1]x", "[a]", "a b:1"]
    {
        assert!(advertise(text).is_err(), "{text}");
    }
}

#[test]
fn bcrypt_hashes_are_distinguished_from_passwords() {
    // The last characters of salt and digest have bits that must be 0.
    let hash = format!("$2b$12$./{}u{}", "a".repeat(19), "a".repeat(31));
    let parsed = basic_auth(&format!("u:{hash}"));
    let bcrypt = BasicAuth { user: "u".to_owned(), password: Password::Bcrypt(hash.clone()) };
    assert_eq!(parsed, Ok(bcrypt));
    let plain = basic_auth("u:a:b$2b$").map(|auth| auth.password);
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
        let message = basic_auth(&bad).err().unwrap_or_default();
        assert!(!message.is_empty() && !message.contains("aaa"), "{bad}");
    }
}
