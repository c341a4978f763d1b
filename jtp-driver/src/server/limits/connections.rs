//! The number of open connections, in total and by client. // T8

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{ClientId, LogThrottle};

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
    /// Only counted if there is a limit for each client.
    by_client: HashMap<ClientId, usize>,
    refused: LogThrottle,
}

/// The limit of connections that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum ConnectionLimit {
    Total,
    Client,
}

impl ConnectionLimit {
    /// For the log: the setting of the server that has the limit.
    fn as_str(self) -> &'static str {
        match self {
            ConnectionLimit::Total => "max_connections",
            ConnectionLimit::Client => "max_connections_per_ip",
        }
    }
}

/// The right to one open connection; returned when dropped.
#[derive(Debug)]
pub(in crate::server) struct Permit {
    limiter: Arc<ConnectionLimiter>,
    /// `None` for a proxy's connection whose client is not known yet. Locked after `ConnectionLimiter::open`.
    client: Mutex<Option<ClientId>>,
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

    /// A permit for a connection from `address`, or the limit that is reached.
    pub(in crate::server) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Result<Permit, ConnectionLimit> {
        self.admit_as(Some(ClientId::at(address)), address, now)
    }

    /// A permit for a connection from a proxy at `address`: it counts in total, until [`Permit::identify`].
    pub(in crate::server) fn admit_unidentified(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Result<Permit, ConnectionLimit> {
        self.admit_as(None, address, now)
    }

    fn admit_as(
        self: &Arc<Self>,
        client: Option<ClientId>,
        address: IpAddr,
        now: Instant,
    ) -> Result<Permit, ConnectionLimit> {
        let mut open = self.lock();
        let limit = if self.max.is_some_and(|max| open.total >= max.get()) {
            Some(ConnectionLimit::Total)
        } else if !open.count(client, self.max_per_client) {
            Some(ConnectionLimit::Client)
        } else {
            None
        };
        if let Some(limit) = limit {
            if let Some(count) = open.refused.record(now) {
                let address = address.to_canonical();
                let limit = limit.as_str();
                tracing::warn!(%address, limit, count, "too many connections: closed at accept");
            }
            return Err(limit);
        }
        open.total += 1;
        Ok(Permit {
            limiter: Arc::clone(self),
            client: Mutex::new(client),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Counts a connection of `client`, if its limit is not reached.
    fn count(&mut self, client: Option<ClientId>, max: Option<NonZeroUsize>) -> bool {
        let (Some(client), Some(max)) = (client, max) else {
            return true;
        };
        let count = self.by_client.entry(client).or_default();
        // `max` is not zero, so an entry that was just made is counted.
        let counts = *count < max.get();
        *count += usize::from(counts);
        counts
    }

    fn discount(&mut self, client: Option<ClientId>) {
        let Some(client) = client else {
            return;
        };
        if let Entry::Occupied(mut count) = self.by_client.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Permit {
    /// Counts the connection as one of `client` from now on, once the peer is known better than at accept. Returns
    /// false, and changes nothing, if the limit of that client is reached.
    pub(in crate::server) fn identify(&self, client: ClientId) -> bool {
        let client = Some(client);
        let mut open = self.limiter.lock();
        let mut counted = self.client();
        if *counted == client {
            return true;
        }
        if !open.count(client, self.limiter.max_per_client) {
            return false;
        }
        open.discount(*counted);
        *counted = client;
        true
    }

    fn client(&self) -> MutexGuard<'_, Option<ClientId>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.limiter.lock();
        open.total -= 1;
        open.discount(*self.client());
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn t8_a_client_that_is_identified_counts_by_its_key() {
        let now = Instant::now();
        let limiter = Arc::new(ConnectionLimiter::new(None, NonZeroUsize::new(2)));
        let admit = || limiter.admit([192, 0, 2, 1].into(), now);
        let [alice, bob] = [[1; 32], [2; 32]].map(ClientId::Key);
        let first = admit().unwrap();
        assert!(first.identify(alice) && first.identify(alice));
        let second = admit().unwrap();
        assert!(second.identify(alice));
        let third = admit().unwrap();
        assert!(!third.identify(alice), "two of one key");
        assert!(
            admit().is_ok(),
            "those with a key left room for their address"
        );
        let fourth = admit().unwrap();
        assert_eq!(admit().unwrap_err(), ConnectionLimit::Client);
        assert!(fourth.identify(bob), "another key");
        drop(second);
        assert!(third.identify(alice), "a permit was returned");
        drop((first, third, fourth));
        let open = limiter.lock();
        assert!(open.total == 0 && open.by_client.is_empty());
    }

    #[test]
    fn t8_connections_are_limited_in_total_and_by_client() {
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
        assert!(first.is_ok() && second.is_ok());
        assert!(limiter.admit(here, now).is_err(), "two from one address");
        let third = limiter.admit(there, now);
        assert!(third.is_ok());
        assert!(limiter.admit(there, now).is_err(), "three in all");
        drop(first);
        assert!(limiter.admit(mapped, now).is_ok(), "a permit was returned");
        drop((second, third));
        assert!(limiter.open.lock().unwrap().by_client.is_empty());
    }

    #[test]
    fn t8_a_connection_from_a_proxy_counts_in_total_until_it_is_identified() {
        let now = Instant::now();
        let [two, one] = [2, 1].map(NonZeroUsize::new);
        let limiter = Arc::new(ConnectionLimiter::new(two, one));
        let proxy = IpAddr::from([10, 0, 0, 1]);
        let client = ClientId::at([192, 0, 2, 1].into());
        let admit = || limiter.admit_unidentified(proxy, now);
        let (first, second) = (admit().unwrap(), admit().unwrap());
        assert_eq!(admit().unwrap_err(), ConnectionLimit::Total);
        assert!(first.identify(client));
        assert!(!second.identify(client), "two of one client");
        drop(first);
        assert!(second.identify(client));
        drop((second, admit().unwrap()));
        assert!(limiter.open.lock().unwrap().by_client.is_empty());
        assert_eq!(limiter.open.lock().unwrap().total, 0);
    }
}
