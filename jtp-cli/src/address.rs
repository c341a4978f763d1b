//! Parses server addresses: with or without a port or `jtp://`, and IPv6 with or without brackets.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The default port. // T1
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
    /// A host name or an IP address, without brackets.
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

    /// Whether the host is this machine, by its address or as `localhost`. Other names are not resolved. An unspecified
    /// address such as `0.0.0.0` connects to this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.ip().map(|ip| ip.to_canonical()) {
            Some(ip) => ip.is_loopback() || ip.is_unspecified(),
            None => {
                let name = self.host.trim_end_matches('.').to_ascii_lowercase();
                name == "localhost" || name.ends_with(".localhost")
            }
        }
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
            Some((scheme, _)) => return Err(format!("unsupported scheme {scheme}://; use jtp://")),
        };
        let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or("missing closing bracket")?;
            if !is_ipv6(host) {
                return Err("the text in brackets is not an IPv6 address".to_owned());
            }
            match port.strip_prefix(':') {
                None if port.is_empty() => (host, None),
                None => return Err("expected :PORT after the closing bracket".to_owned()),
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
            return Err("missing host; expected HOST:PORT".to_owned());
        }
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@?#[]".contains(c)) {
            return Err("expected HOST:PORT".to_owned());
        }
        let port = match port {
            None => DEFAULT_PORT,
            // `parse` alone would accept a plus sign.
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port
                .parse()
                .map_err(|_| "invalid port; expected a number from 0 to 65535".to_owned())?,
            Some(_) => return Err("invalid port; expected a number from 0 to 65535".to_owned()),
        };
        Ok(Address {
            host: host.to_owned(),
            port,
        })
    }
}

/// Accepts an optional zone, as in `fe80::1%eth0`.
fn is_ipv6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "-"));
    !zone.is_empty() && address.parse::<Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_recognised_by_address_and_as_localhost() {
        let is_loopback = |text: &str| text.parse::<Address>().unwrap().is_loopback();
        for text in [
            "127.0.0.1",
            "127.8.8.8:1",
            "[::1]:7",
            "[::ffff:127.0.0.1]:7",
            "0.0.0.0:8443",
            "[::]:8443",
            "LOCALHOST:1",
            "localhost.",
            "a.localhost",
        ] {
            assert!(is_loopback(text), "{text}");
        }
        for text in [
            "192.0.2.1",
            "[2001:db8::1]",
            "[::ffff:192.0.2.1]:7",
            "fe80::1%eth0",
            "pictures.example",
            "notlocalhost",
            "localhost.example",
        ] {
            assert!(!is_loopback(text), "{text}");
        }
    }

    #[test]
    fn all_address_formats_are_parsed() {
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
            assert!(parsed.is_err(), "{bad}: {parsed:?}");
        }
    }
}
