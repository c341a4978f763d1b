//! Addresses as people write them: bare, with a port, with `jtp://`, IPv6 in brackets.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The port where none is given. // T1
pub const DEFAULT_PORT: u16 = 8443;

/// A host and a port.
///
/// ```
/// use jtp_cli::address::Address;
/// let address: Address = "jtp://[::1]".parse().unwrap();
/// assert_eq!(address.to_string(), "[::1]:8443");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// The host as an IP address, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let rest = text.trim();
        let rest = match rest.split_once("://") {
            None => rest,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("jtp") => {
                rest.strip_suffix('/').unwrap_or(rest)
            }
            Some((scheme, _)) => return Err(format!("{scheme}:// is not spoken here; use jtp://")),
        };
        let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
            let (host, port) = rest
                .split_once(']')
                .ok_or("the closing bracket is missing")?;
            if !is_ipv6(host) {
                return Err("between the brackets is no IPv6 address".to_owned());
            }
            match port.strip_prefix(':') {
                None if port.is_empty() => (host, None),
                None => return Err("after the bracket only :PORT can follow".to_owned()),
                Some(port) => (host, Some(port)),
            }
        } else if is_ipv6(rest) {
            (rest, None)
        } else {
            match rest.split_once(':') {
                None => (rest, None),
                Some((host, port)) => (host, Some(port)),
            }
        };
        if host.is_empty() {
            return Err("the host is missing; expected HOST:PORT".to_owned());
        }
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@?#[]".contains(c)) {
            return Err("expected HOST:PORT".to_owned());
        }
        let port = match port {
            None => DEFAULT_PORT,
            // `parse` would take a plus sign.
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port
                .parse()
                .map_err(|_| "a port is a number from 0 to 65535".to_owned())?,
            Some(_) => return Err("a port is a number from 0 to 65535".to_owned()),
        };
        Ok(Address {
            host: host.to_owned(),
            port,
        })
    }
}

/// With or without a zone, as in `fe80::1%eth0`.
fn is_ipv6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "-"));
    !zone.is_empty() && address.parse::<Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_an_address_is_understood() {
        for (text, parsed) in [
            ("127.0.0.1:8443", "127.0.0.1:8443"),
            ("127.0.0.1", "127.0.0.1:8443"),
            ("pictures.example", "pictures.example:8443"),
            ("pictures.example:0", "pictures.example:0"),
            ("jtp://pictures.example", "pictures.example:8443"),
            ("JTP://pictures.example:1/", "pictures.example:1"),
            ("[::1]:7", "[::1]:7"),
            ("[::1]", "[::1]:8443"),
            ("::1", "[::1]:8443"),
            ("jtp://[fe80::1%eth0]:9", "[fe80::1%eth0]:9"),
            (" localhost ", "localhost:8443"),
        ] {
            assert_eq!(
                text.parse::<Address>().map(|a| a.to_string()),
                Ok(parsed.to_owned()),
                "{text}"
            );
        }
        for bad in [
            "",
            ":8443",
            "host:",
            "host:65536",
            "host:+1",
            "host:1:2",
            "[::1",
            "[host]:1",
            "[::1]1",
            "http://host",
            "host/path",
            "a b",
            "jtp://",
            "me@host",
        ] {
            let parsed = bad.parse::<Address>();
            // An empty port is refused like any other that is no number.
            assert!(parsed.is_err(), "{bad}: {parsed:?}");
        }
    }
}
