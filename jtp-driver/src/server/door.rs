//! How many connections, and from whom.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    max_per_address: Option<NonZeroUsize>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    turned_away: Seldom,
}

/// One open connection; gone when dropped.
#[derive(Debug)]
pub(super) struct Pass {
    door: Arc<Door>,
    address: IpAddr,
}

impl Door {
    pub(super) fn new(max: Option<NonZeroUsize>, max_per_address: Option<NonZeroUsize>) -> Door {
        Door {
            max,
            max_per_address,
            open: Mutex::default(),
        }
    }

    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Pass> {
        let address = address.to_canonical();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        let full = self.max.is_some_and(|max| open.total >= max.get())
            || self.max_per_address.is_some_and(|max| here >= max.get());
        if full {
            if let Some(count) = open.turned_away.happened(now) {
                tracing::warn!(%address, count, "too many connections: closed at accept");
            }
            return None;
        }
        open.total += 1;
        if self.max_per_address.is_some() {
            *open.by_address.entry(address).or_default() += 1;
        }
        Some(Pass {
            door: Arc::clone(self),
            address,
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
        if let Entry::Occupied(mut here) = open.by_address.entry(self.address) {
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
    fn the_door_counts_in_all_and_by_address() {
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
        assert!(door.open.lock().unwrap().by_address.is_empty());
    }
}
