//! `--listen ADDR:PORT`.

use std::net::{IpAddr, SocketAddr};

/// Parses an IP address and a port. The error suggests a correct value.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Err(format!("the port is missing; write {}", SocketAddr::new(address, 3333)));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("write an IP address and a port, such as 127.0.0.1:3333".to_owned());
    };
    if port.parse::<u16>().is_err() {
        return Err("the port is not a number from 0 to 65535".to_owned());
    }
    Err(match host {
        "localhost" => {
            format!("host names are not supported; write 127.0.0.1:{port} or [::1]:{port}")
        }
        "" | "*" => {
            format!(
                "the address is missing; to listen on all addresses, write 0.0.0.0:{port} or \
                 [::]:{port}"
            )
        }
        _ if host.contains('%') => {
            format!("IPv6 zones are not supported; write [::]:{port} or an address without a zone")
        }
        _ if host.contains(':') => {
            format!("write IPv6 addresses in brackets, such as [::1]:{port}")
        }
        _ => {
            format!("host names are not supported; write an IP address, such as 127.0.0.1:{port}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_an_invalid_listen_address_is_refused_with_a_suggestion() {
        for (text, message) in [
            ("localhost:3333", "host names are not supported; write 127.0.0.1:3333 or [::1]:3333"),
            (
                "node1:3333",
                "host names are not supported; write an IP address, such as 127.0.0.1:3333",
            ),
            ("::1:x", "the port is not a number from 0 to 65535"),
            ("::1", "the port is missing; write [::1]:3333"),
            ("127.0.0.1", "the port is missing; write 127.0.0.1:3333"),
            ("3333", "write an IP address and a port, such as 127.0.0.1:3333"),
            (
                ":3333",
                "the address is missing; to listen on all addresses, write 0.0.0.0:3333 or [::]:3333",
            ),
            (
                "*:3333",
                "the address is missing; to listen on all addresses, write 0.0.0.0:3333 or [::]:3333",
            ),
            ("127.0.0.1:99999", "the port is not a number from 0 to 65535"),
            (
                "[fe80::1%eth0]:3333",
                "IPv6 zones are not supported; write [::]:3333 or an address without a zone",
            ),
            ("2001:db8::1:2:3:4:5:6:3333", "write IPv6 addresses in brackets, such as [::1]:3333"),
        ] {
            assert_eq!(address(text), Err(message.to_owned()), "{text}");
        }
        for text in ["127.0.0.1:3333", "[::1]:0", "0.0.0.0:3333"] {
            assert_eq!(address(text).map(|it| it.to_string()).as_deref(), Ok(text));
        }
    }
}
