//! The number of open connections, in all and by client address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{LogThrottle, client_network};

/// Limits the open connections.
#[derive(Debug)]
pub(in crate::server) struct ConnectionLimiter {
    max: Option<NonZeroUsize>,
    max_per_client: Option<NonZeroUsize>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// By [`client_network`].
    by_client: HashMap<IpAddr, usize>,
    refused: LogThrottle,
}

/// The right to one open connection; returned when dropped.
#[derive(Debug)]
pub(in crate::server) struct Permit {
    limiter: Arc<ConnectionLimiter>,
    client: IpAddr,
}

impl ConnectionLimiter {
    pub(in crate::server) fn new(
        max: Option<NonZeroUsize>,
        max_per_client: Option<NonZeroUsize>,
    ) -> ConnectionLimiter {
        ConnectionLimiter {
            max,
            max_per_client,
            open: Mutex::default(),
        }
    }

    /// A permit for a connection from `address`; `None` if a limit is reached.
    pub(in crate::server) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Option<Permit> {
        let client = client_network(address);
        let mut open = self.lock();
        let from_client = open.by_client.get(&client).copied().unwrap_or(0);
        let full = self.max.is_some_and(|max| open.total >= max.get())
            || self
                .max_per_client
                .is_some_and(|max| from_client >= max.get());
        if full {
            if let Some(count) = open.refused.record(now) {
                let address = address.to_canonical();
                tracing::warn!(%address, count, "too many connections: closed at accept");
            }
            return None;
        }
        open.total += 1;
        if self.max_per_client.is_some() {
            *open.by_client.entry(client).or_default() += 1;
        }
        Some(Permit {
            limiter: Arc::clone(self),
            client,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.limiter.lock();
        open.total -= 1;
        if let Entry::Occupied(mut count) = open.by_client.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn s15_an_ipv6_64_is_one_client_and_mapped_ipv4_is_ipv4() {
        let now = Instant::now();
        let limiter = Arc::new(ConnectionLimiter::new(None, NonZeroUsize::new(2)));
        let admit = |address: &str| limiter.admit(address.parse().unwrap(), now);
        let first = admit("2001:db8::1");
        let second = admit("2001:db8::ffff:2");
        assert!(first.is_some() && second.is_some());
        assert!(admit("2001:db8::3").is_none(), "one /64 is one client");
        assert!(
            admit("2001:db8:0:1::1").is_some(),
            "the next /64 is another"
        );
        // All mapped IPv4 addresses share a /64 and are still separate clients.
        let v4 = [admit("::ffff:192.0.2.1"), admit("192.0.2.1")];
        assert!(v4.iter().all(Option::is_some));
        assert!(admit("::ffff:192.0.2.1").is_none());
        assert!(admit("::ffff:192.0.2.2").is_some());
        drop((first, second, v4));
        assert!(limiter.open.lock().unwrap().by_client.is_empty());
    }

    #[test]
    fn connections_are_limited_in_all_and_by_client() {
        let now = Instant::now();
        let limiter = Arc::new(ConnectionLimiter::new(
            NonZeroUsize::new(3),
            NonZeroUsize::new(2),
        ));
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let there = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let first = limiter.admit(here, now);
        let second = limiter.admit(mapped, now);
        assert!(first.is_some() && second.is_some());
        assert!(limiter.admit(here, now).is_none(), "two from one address");
        let third = limiter.admit(there, now);
        assert!(third.is_some());
        assert!(limiter.admit(there, now).is_none(), "three in all");
        drop(first);
        assert!(
            limiter.admit(mapped, now).is_some(),
            "a permit was returned"
        );
        drop((second, third));
        assert!(limiter.open.lock().unwrap().by_client.is_empty());
    }
}
