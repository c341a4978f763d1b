//! Limits on connections and requests, in total and by client. // T8 S15

mod connections;
#[cfg(feature = "tls")]
mod handshakes;
mod rate;
mod watchers;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

pub(super) use connections::{ConnectionLimit, ConnectionLimiter, Permit};
#[cfg(feature = "tls")]
pub(super) use handshakes::HandshakeLimiter;
pub use rate::RateLimiter;
pub(super) use watchers::{WatcherLimiter, WatcherPermit};

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
    #[cfg_attr(not(test), allow(dead_code))]
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

/// The shortest time between two log lines about the same kind of event.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Throttles the log lines of an event that a peer can repeat.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    count: u64,
    logged: Option<Instant>,
}

impl LogThrottle {
    /// Counts an event. Returns the number of events since the last log line if one is due now.
    pub(super) fn record(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let due = |last| now.saturating_duration_since(last) >= LOG_INTERVAL;
        if !self.logged.is_none_or(due) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_events_are_logged_every_ten_seconds_with_their_count() {
        let begun = Instant::now();
        let mut throttle = LogThrottle::default();
        let logged: Vec<(u64, u64)> = (0..250)
            .filter_map(|tenth| {
                let now = begun + Duration::from_millis(100 * tenth);
                Some((tenth, throttle.record(now)?))
            })
            .collect();
        assert_eq!(logged, [(0, 1), (100, 100), (200, 100)]);
    }

    #[test]
    fn s15_an_ipv6_address_counts_as_its_64_and_a_mapped_address_as_ipv4() {
        let network = |address: &str| client_network(address.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8::1:2:3:4"), "2001:db8::");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
