//! The names of a server in the subjectAltName of its certificate.

use std::net::IpAddr;

use crate::escape::shortened;

/// How many names are shown.
const MAX_SHOWN: usize = 4;

/// How many bytes of a name are shown: more than those of a DNS name.
const MAX_NAME: usize = 300;

/// A name in the subjectAltName of a certificate that can identify a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HostName {
    /// A DNS name, perhaps with a wildcard. It is not validated.
    Dns(String),
    /// An IP address.
    Ip(String),
}

impl HostName {
    /// Parses the names in an error of rustls: `DnsName("localhost")`, `IpAddress(127.0.0.1)`. Those of other types
    /// identify no server and are omitted.
    pub(crate) fn all(presented: &[String]) -> Vec<HostName> {
        presented
            .iter()
            .filter_map(|name| HostName::parse(name))
            .collect()
    }

    fn parse(text: &str) -> Option<HostName> {
        if let Some(rest) = text.strip_prefix("DnsName(\"") {
            return Some(HostName::Dns(rest.strip_suffix("\")")?.to_owned()));
        }
        let address = text.strip_prefix("IpAddress(")?.strip_suffix(')')?;
        // The short form of an IPv6 address.
        let address = match address.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => address.to_owned(),
        };
        Some(HostName::Ip(address))
    }

    /// A common mistake in certificates. Such a name matches neither the address nor a DNS name.
    pub(crate) fn is_address_as_dns_name(&self) -> bool {
        matches!(self, HostName::Dns(name) if name.parse::<IpAddr>().is_ok())
    }
}

/// The first names, escaped and cut, and how many follow.
pub(crate) fn listed(names: &[HostName]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(MAX_SHOWN)
        .map(|(HostName::Dns(name) | HostName::Ip(name))| shortened(name, MAX_NAME))
        .collect();
    let more = match names.len().saturating_sub(MAX_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_at_most_4_are_listed() {
        let presented = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        for (names, text) in [
            (&[][..], ""),
            (&["DirectoryName", "Unsupported(0x81)"], ""),
            (&["UniformResourceIdentifier(\"https://a\")"], ""),
            (&["DnsName(\"a\nb\")"], r"a\nb"),
            (&["IpAddress(0::1)", "IpAddress(10.0.0.1)"], "::1, 10.0.0.1"),
            (&["IpAddress([invalid: 01])"], "[invalid: 01]"),
            (&["DnsName(\"a\")"; 4], "a, a, a, a"),
            (&["DnsName(\"a\")"; 6], "a, a, a, a and 2 more"),
        ] {
            assert_eq!(listed(&HostName::all(&presented(names))), text);
        }
    }
}
