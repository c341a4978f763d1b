//! How many connections, and from whom.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jtp_core::client_network;

/// What happens again and again is logged once in so long.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Something that is logged now and then, however often it happens.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    count: u64,
    logged: Option<Instant>,
}

impl Seldom {
    /// It has happened; how often since it was logged last, if it is to be logged now.
    pub(super) fn happened(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let due = |last| now.saturating_duration_since(last) >= LOG_EVERY;
        if !self.logged.is_none_or(due) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// Counts the open connections.
#[derive(Debug)]
pub(super) struct Door {
    max: Option<NonZeroUsize>,
    max_per_client: Option<NonZeroUsize>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// By [`client_network`].
    by_client: HashMap<IpAddr, usize>,
    turned_away: Seldom,
}

/// One open connection; gone when dropped.
#[derive(Debug)]
pub(super) struct Pass {
    door: Arc<Door>,
    client: IpAddr,
}

impl Door {
    pub(super) fn new(max: Option<NonZeroUsize>, max_per_client: Option<NonZeroUsize>) -> Door {
        Door {
            max,
            max_per_client,
            open: Mutex::default(),
        }
    }

    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Pass> {
        let client = client_network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_client.get(&client).copied().unwrap_or(0);
        let full = self.max.is_some_and(|max| open.total >= max.get())
            || self.max_per_client.is_some_and(|max| here >= max.get());
        if full {
            if let Some(count) = open.turned_away.happened(now) {
                let address = address.to_canonical();
                tracing::warn!(%address, count, "too many connections: closed at accept");
            }
            return None;
        }
        open.total += 1;
        if self.max_per_client.is_some() {
            *open.by_client.entry(client).or_default() += 1;
        }
        Some(Pass {
            door: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self
            .door
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Entry::Occupied(mut here) = open.by_client.entry(self.client) {
            *here.get_mut() -= 1;
            if *here.get() == 0 {
                here.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn what_goes_on_is_logged_once_in_ten_seconds_and_counted() {
        let begun = Instant::now();
        let mut seldom = Seldom::default();
        let logged: Vec<(u64, u64)> = (0..250)
            .filter_map(|tenth| {
                let now = begun + Duration::from_millis(100 * tenth);
                Some((tenth, seldom.happened(now)?))
            })
            .collect();
        assert_eq!(logged, [(0, 1), (100, 100), (200, 100)]);
    }

    #[test]
    fn an_ipv6_network_is_one_client_at_the_door_and_mapped_ipv4_is_ipv4() {
        let now = Instant::now();
        let door = Arc::new(Door::new(None, NonZeroUsize::new(2)));
        let admit = |address: &str| door.admit(address.parse().unwrap(), now);
        let first = admit("2001:db8::1");
        let second = admit("2001:db8::ffff:2");
        assert!(first.is_some() && second.is_some());
        assert!(admit("2001:db8::3").is_none(), "one /64 is one client");
        assert!(
            admit("2001:db8:0:1::1").is_some(),
            "the next /64 is another"
        );
        // All of mapped IPv4 lies in one /64, and is not one client.
        let v4 = [admit("::ffff:192.0.2.1"), admit("192.0.2.1")];
        assert!(v4.iter().all(Option::is_some));
        assert!(admit("::ffff:192.0.2.1").is_none());
        assert!(admit("::ffff:192.0.2.2").is_some());
        drop((first, second, v4));
        assert!(door.open.lock().unwrap().by_client.is_empty());
    }

    #[test]
    fn the_door_counts_in_all_and_by_client() {
        let now = Instant::now();
        let door = Arc::new(Door::new(NonZeroUsize::new(3), NonZeroUsize::new(2)));
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let there = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let first = door.admit(here, now);
        let second = door.admit(mapped, now);
        assert!(first.is_some() && second.is_some());
        assert!(door.admit(here, now).is_none(), "two from one address");
        let third = door.admit(there, now);
        assert!(third.is_some());
        assert!(door.admit(there, now).is_none(), "three in all");
        drop(first);
        assert!(door.admit(mapped, now).is_some(), "a place is free again");
        drop((second, third));
        assert!(door.open.lock().unwrap().by_client.is_empty());
    }
}
