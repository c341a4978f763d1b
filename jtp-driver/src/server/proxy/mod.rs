//! The header of the PROXY protocol, version 2, with which a proxy names the client whose connection it forwards.
//!
//! A [server](super::ServerBuilder::proxy_protocol) reads it by itself. [`parse`] is for programs that accept
//! connections in another way. The format is that of HAProxy's [specification].
//!
//! ```text
//! 12 bytes  signature
//!  1 byte   version (2) and command (0: LOCAL, 1: PROXY)
//!  1 byte   address family and transport (0x11: TCP over IPv4, 0x21: TCP over IPv6)
//!  2 bytes  length of the rest, big-endian
//!           source address, destination address, source port, destination port, then any extensions
//! ```
//!
//! [specification]: https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt

mod read;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) use read::{HEADER_TIMEOUT, ProxyProtocol, Source, read_source};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes before the addresses.
const FIXED: usize = 16;

/// The longest header that is accepted, in bytes. The specification recommends to stay below 536; only extensions with
/// certificates make it longer.
pub const MAX_HEADER: usize = 2048;

/// A header, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyHeader {
    /// The header has at least `length` bytes, more than there are. Those that there are can begin a header. Nothing
    /// beyond `length` needs to be read to go on.
    Incomplete {
        /// The length of the header as far as it is known.
        length: usize,
    },
    /// The header is complete.
    Complete {
        /// The address of the client; `None` if the connection is the proxy's own (LOCAL), for a health check.
        client: Option<SocketAddr>,
        /// The length of the header. The bytes of the connection follow.
        length: usize,
    },
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// They do not begin with the signature. Version 1, which is text, is not supported.
    #[error("no PROXY protocol header of version 2")]
    Signature,
    /// Another version.
    #[error("version {0} of the PROXY protocol is not supported")]
    Version(u8),
    /// A command other than LOCAL and PROXY.
    #[error("unknown command {0} in a PROXY protocol header")]
    Command(u8),
    /// PROXY, and not with TCP over IPv4 or IPv6: the client has no address that could be limited or logged.
    #[error("address family and transport {0:#04x} in a PROXY protocol header are not supported")]
    Family(u8),
    /// The length is too small for the addresses.
    #[error("a PROXY protocol header is too short for its addresses")]
    TooShort,
    /// Longer than [`MAX_HEADER`].
    #[error("a PROXY protocol header of {0} bytes is too long")]
    TooLong(usize),
}

/// Whose connection it is.
#[derive(Clone, Copy)]
enum Command {
    Local,
    ProxyTcp4,
    ProxyTcp6,
}

/// Parses the header at the start of `bytes`. Extensions are skipped.
///
/// # Errors
///
/// The bytes cannot begin a header that is accepted, whatever follows them.
pub fn parse(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(ProxyHeaderError::Signature);
    }
    if let Some(version) = bytes.get(12) {
        match (version >> 4, version & 0x0f) {
            (2, 0 | 1) => {}
            (2, command) => return Err(ProxyHeaderError::Command(command)),
            (version, _) => return Err(ProxyHeaderError::Version(version)),
        }
    }
    let command = match (bytes.get(12), bytes.get(13)) {
        (_, None) => return Ok(ProxyHeader::Incomplete { length: FIXED }),
        // The family of LOCAL has no meaning.
        (Some(0x20), _) => Command::Local,
        (_, Some(0x11)) => Command::ProxyTcp4,
        (_, Some(0x21)) => Command::ProxyTcp6,
        (_, Some(family)) => return Err(ProxyHeaderError::Family(*family)),
    };
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(ProxyHeader::Incomplete { length: FIXED });
    };
    let rest_length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let length = FIXED + rest_length;
    if rest_length < command.addresses() {
        return Err(ProxyHeaderError::TooShort);
    }
    if length > MAX_HEADER {
        return Err(ProxyHeaderError::TooLong(length));
    }
    if bytes.len() < length {
        return Ok(ProxyHeader::Incomplete { length });
    }
    let client = command.client(rest);
    Ok(ProxyHeader::Complete { client, length })
}

impl Command {
    /// The length of both addresses and ports.
    const fn addresses(self) -> usize {
        match self {
            Command::Local => 0,
            Command::ProxyTcp4 => 2 * (4 + 2),
            Command::ProxyTcp6 => 2 * (16 + 2),
        }
    }

    /// The source address of a complete header.
    fn client(self, addresses: &[u8]) -> Option<SocketAddr> {
        let (ip, rest): (IpAddr, &[u8]) = match self {
            Command::Local => return None,
            Command::ProxyTcp4 => {
                let (ip, rest) = addresses.split_first_chunk::<4>()?;
                (Ipv4Addr::from(*ip).into(), rest.get(4..)?)
            }
            Command::ProxyTcp6 => {
                let (ip, rest) = addresses.split_first_chunk::<16>()?;
                (Ipv6Addr::from(*ip).into(), rest.get(16..)?)
            }
        };
        let port = rest.first_chunk::<2>()?;
        Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
    }
}
