use super::*;

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
