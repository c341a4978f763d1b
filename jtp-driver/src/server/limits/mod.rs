//! Limits on connections and requests, by client address.

mod connections;
mod rate;

use std::net::{IpAddr, Ipv6Addr};

pub(super) use connections::{ConnectionLimiter, Permit};
pub use rate::RateLimiter;

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
