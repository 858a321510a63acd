//! Parses the text of one value into a type that cannot be wrong.
//!
//! An error is the sentence for the user, without file, line and key.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    time::Duration,
};

use rustls::pki_types::ServerName;

use crate::common::deadline::Budget;

/// A value, or the error for the user.
pub(super) type Parsed<T> = Result<T, String>;

/// `value` as messages show it: escaped, truncated, and without the text before an `@`, which may
/// be a password.
pub(super) fn shown(value: &str) -> String {
    const MOST: usize = 60;
    let (hidden, value) = match value.rsplit_once('@') {
        Some((_, host)) => ("…@", host),
        None => ("", value),
    };
    let escaped: String = value.escape_debug().take(MOST).collect();
    let more = if value.escape_debug().nth(MOST).is_some() { "…" } else { "" };
    format!("`{hidden}{escaped}{more}`")
}

pub(super) fn boolean(value: &str) -> Parsed<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{} is not a boolean; expected True or False", shown(value))),
    }
}

/// One of a few words, written exactly as given.
pub(super) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&str) -> Parsed<T> {
    move |value| {
        words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning).ok_or_else(
            || {
                let all: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
                let (last, others) = all.split_last().map_or(("", &[][..]), |(l, o)| (l, o));
                format!("{} is not valid; expected {} or {last}", shown(value), others.join(", "))
            },
        )
    }
}

/// A duration in seconds: more than 0, at most [`Budget::MAX`].
pub(super) fn seconds(value: &str) -> Parsed<Budget> {
    let length = seconds_or_none(value)?;
    if length.is_zero() {
        return Err("must be more than 0 seconds".to_owned());
    }
    Budget::new(length).ok_or_else(|| too_long(value))
}

/// A duration in seconds: at most [`Budget::MAX`]. Only plain decimal digits, so that nothing
/// depends on the parsing of floating-point numbers.
pub(super) fn seconds_or_none(value: &str) -> Parsed<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 {
        return Err(format!(
            "{} is not a duration; write seconds in plain digits, such as 5 or 0.25",
            shown(value)
        ));
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().unwrap_or(0);
    let whole: u64 = whole.parse().map_err(|_| too_long(value))?;
    let length = Duration::new(whole, nanos);
    if length > Budget::MAX {
        return Err(too_long(value));
    }
    Ok(length)
}

fn too_long(value: &str) -> String {
    let most = Budget::MAX.as_secs();
    format!("{} seconds is longer than a day ({most} seconds)", shown(value))
}

pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A whole number from 1 to `most`.
fn whole_number(value: &str, most: u64) -> Parsed<u64> {
    is_digits(value)
        .then(|| value.parse().ok())
        .flatten()
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("{} is not a whole number from 1 to {most}", shown(value)))
}

pub(super) fn port(value: &str) -> Parsed<NonZeroU16> {
    let number = whole_number(value, u16::MAX.into())?;
    narrow(number, value)
}

pub(super) fn count(value: &str) -> Parsed<NonZeroU32> {
    let number = whole_number(value, u32::MAX.into())?;
    narrow(number, value)
}

/// A number of threads. More than 1024 is certainly a mistake.
pub(super) fn threads(value: &str) -> Parsed<NonZeroUsize> {
    let number = whole_number(value, 1024)?;
    narrow(number, value)
}

fn narrow<T: TryFrom<NonZeroUsize>>(number: u64, value: &str) -> Parsed<T> {
    usize::try_from(number)
        .ok()
        .and_then(NonZeroUsize::new)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("{} is out of range", shown(value)))
}

const UNITS: &[(&str, u64)] = &[
    ("k", 1_000),
    ("kb", 1_000),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("ki", 1 << 10),
    ("kib", 1 << 10),
    ("mi", 1 << 20),
    ("mib", 1 << 20),
    ("gi", 1 << 30),
    ("gib", 1 << 30),
    ("b", 1),
    ("", 1),
];

/// A number of bytes, such as `200000000`, `200MB` or `64MiB`.
pub(super) fn size(value: &str) -> Parsed<u64> {
    let digits_end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (digits, unit) = value.split_at(digits_end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor = UNITS.iter().find(|(name, _)| *name == unit);
    let (true, Some((_, factor))) = (is_digits(digits), factor) else {
        return Err(format!(
            "{} is not a size; write bytes, or a number with a unit, such as 200MB or 64MiB",
            shown(value)
        ));
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| format!("{} is too large", shown(value)))?;
    if bytes == 0 {
        return Err("must be more than 0 bytes".to_owned());
    }
    Ok(bytes)
}

/// An IP address. Brackets around IPv6 are optional.
pub(super) fn address(value: &str) -> Parsed<IpAddr> {
    ip(value).ok_or_else(|| match zone(value) {
        Some(_) => format!(
            "{} has a zone, and zones are not supported; write an address without one, or ::",
            shown(value)
        ),
        None => format!("{} is not an IP address; write one such as 0.0.0.0 or ::1", shown(value)),
    })
}

fn ip(value: &str) -> Option<IpAddr> {
    match value.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => value.parse().ok(),
    }
}

/// A DNS name or IP address, without scheme, port or path. The result has no brackets.
pub(super) fn host(value: &str) -> Parsed<String> {
    if let Some(address) = ip(value) {
        return Ok(address.to_string());
    }
    if value.contains('/') {
        return Err(format!(
            "{} is not a host name; leave out the scheme and the path",
            shown(value)
        ));
    }
    if let Some(zone) = zone(value) {
        return Err(format!(
            "{} has the zone {}, and zones are not supported; write another address of that \
             host, or its name",
            shown(value),
            shown(zone)
        ));
    }
    if value.contains(':') {
        return Err(format!(
            "{} is neither a host name nor an IP address; set the port with `port`",
            shown(value)
        ));
    }
    if !is_dns_name(value) {
        return Err(format!("{} is neither a host name nor an IP address", shown(value)));
    }
    Ok(value.to_owned())
}

/// The zone of an IPv6 address (RFC 4007), which a link-local address needs.
fn zone(value: &str) -> Option<&str> {
    let (address, zone) = value.trim_matches(['[', ']']).split_once('%')?;
    address.parse::<Ipv6Addr>().is_ok().then_some(zone)
}

/// Underscores are allowed, because container networks use them in names.
fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels_are_good = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    });
    // Some resolvers treat `127.1` and `999.1.1.1` as addresses, each in its own way.
    let looks_like_an_address = name.rsplit('.').next().is_some_and(is_digits);
    name.len() <= 253 && labels_are_good && !looks_like_an_address
}

/// The name that an exporter's certificate must be valid for: a DNS name or an IP address.
pub(super) fn server_name(value: &str) -> Parsed<ServerName<'static>> {
    ServerName::try_from(value.to_owned()).map_err(|_| {
        format!(
            "{} cannot be the name in a certificate; write a DNS name or an IP address",
            shown(value)
        )
    })
}

pub(super) fn username(value: &str) -> Parsed<String> {
    if value.contains(':') {
        return Err(
            "must not contain `:`, which separates user and password in HTTP Basic".to_owned()
        );
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests;
