//! Limits on connections and requests, in total and by client. // T8 S15

mod connections;
#[cfg(feature = "tls")]
mod handshakes;
mod rate;
mod watchers;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

pub(super) use connections::{ConnectionLimit, ConnectionLimiter, Permit};
#[cfg(feature = "tls")]
pub(super) use handshakes::HandshakeLimiter;
pub use rate::RateLimiter;
pub(super) use watchers::{WatcherLimiter, WatcherPermit};

pub(super) use crate::throttle::LogThrottle;

/// The address that stands for a client where addresses are counted: the /64 network of an IPv6 address, since a client
/// is usually assigned a whole /64, and an IPv4 address itself, also one that is mapped into IPv6. // S15
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 => v4,
    }
}

/// Whom the limits for one client count. // T8
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::server) enum ClientId {
    /// By its [`client_network`].
    Network(IpAddr),
    /// By the SHA-256 of its TLS key, wherever it connects from. // T7
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    Key([u8; 32]),
}

impl ClientId {
    /// The client at this address.
    pub(in crate::server) fn at(address: IpAddr) -> ClientId {
        ClientId::Network(client_network(address))
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientId::Network(address) => address.fmt(f),
            ClientId::Key(digest) => {
                f.write_str("sha256:")?;
                digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s15_an_ipv6_address_counts_as_its_64_and_a_mapped_address_as_ipv4() {
        let network = |address: &str| client_network(address.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8::1:2:3:4"), "2001:db8::");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
