//! How many requests a client address may make. // S15

use alloc::collections::{BTreeMap, VecDeque};
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;

use crate::time::Time;

/// The window is counted in so many parts: a request counts until the part it came in has left the window,
/// so at most one part longer than the window.
const PARTS: u32 = 64;

/// The most addresses that are remembered. Beyond it the ones silent longest are forgotten.
const MAX_ADDRESSES: usize = 65_536;

/// Counts requests by client address (IPv6 by /64) in a sliding window. // S15
///
/// It uses a few hundred bytes for an address at most, and forgets one that was silent for a window.
///
/// ```
/// use std::time::Duration;
/// use jtp_core::{RateLimiter, Time};
///
/// let mut limiter = RateLimiter::new(2, Duration::from_secs(1)).unwrap();
/// let (address, now) = ([192, 0, 2, 1].into(), Time::ZERO);
/// assert!(limiter.allow(address, now) && limiter.allow(address, now));
/// assert!(!limiter.allow(address, now));
/// assert!(limiter.allow(address, now + Duration::from_secs(2)));
/// ```
#[derive(Debug)]
pub struct RateLimiter {
    limit: u32,
    part: Duration,
    clients: BTreeMap<IpAddr, Window>,
    /// When the silent ones were last looked for.
    swept: u64,
}

#[derive(Debug, Default)]
struct Window {
    /// Parts with requests, oldest first: which one, and how many.
    parts: VecDeque<(u64, u32)>,
    total: u32,
}

impl Window {
    fn forget_before(&mut self, oldest: u64) {
        while let Some(&(part, count)) = self.parts.front() {
            if part >= oldest {
                return;
            }
            self.total -= count;
            self.parts.pop_front();
        }
    }
}

impl RateLimiter {
    /// Allows `limit` requests in each window for an address; `None` if either is zero, which is no limit.
    #[must_use]
    pub fn new(limit: u32, window: Duration) -> Option<RateLimiter> {
        let part = (window / PARTS).max(Duration::from_nanos(1));
        (limit > 0 && !window.is_zero()).then(|| RateLimiter {
            limit,
            part,
            clients: BTreeMap::new(),
            swept: 0,
        })
    }

    /// Counts a request, if it is allowed; one that is refused does not count.
    pub fn allow(&mut self, address: IpAddr, now: Time) -> bool {
        let ticks = now.elapsed().as_nanos() / self.part.as_nanos();
        let part = u64::try_from(ticks).unwrap_or(u64::MAX);
        let oldest = part.saturating_sub(u64::from(PARTS));
        self.sweep(part, oldest);
        let window = self.clients.entry(client_network(address)).or_default();
        window.forget_before(oldest);
        if window.total >= self.limit {
            return false;
        }
        window.total += 1;
        match window.parts.back_mut() {
            Some((last, count)) if *last >= part => *count += 1,
            _ => window.parts.push_back((part, 1)),
        }
        true
    }

    /// Forgets the silent, once a window, or when there are too many.
    fn sweep(&mut self, part: u64, oldest: u64) {
        let full = self.clients.len() >= MAX_ADDRESSES;
        if part.saturating_sub(self.swept) <= u64::from(PARTS) && !full {
            return;
        }
        self.swept = part;
        // Under a flood of addresses half a window of silence is enough to be forgotten.
        let oldest = if full {
            oldest.saturating_add(u64::from(PARTS / 2))
        } else {
            oldest
        };
        self.clients
            .retain(|_, window| window.parts.back().is_some_and(|(last, _)| *last >= oldest));
        if self.clients.len() >= MAX_ADDRESSES {
            self.clients.clear();
        }
    }
}

/// What stands for a client where addresses are counted: the network of an IPv6 address, since a /64 is what one
/// client is given, and an IPv4 address itself, also one that is mapped into IPv6. // S15
///
/// ```
/// use jtp_core::client_network;
///
/// let network = |address: &str| client_network(address.parse().unwrap()).to_string();
/// assert_eq!(network("2001:db8::1:2:3:4"), "2001:db8::");
/// assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
/// ```
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

    fn at(millis: u64) -> Time {
        Time::since_epoch(Duration::from_millis(millis))
    }

    #[test]
    fn s15_the_window_slides_and_a_refused_request_does_not_count() {
        let mut limiter = RateLimiter::new(3, Duration::from_secs(1)).unwrap();
        let address = [192, 0, 2, 1].into();
        assert!(limiter.allow(address, at(0)));
        assert!(limiter.allow(address, at(600)));
        assert!(limiter.allow(address, at(600)));
        for millis in 600..=1_000 {
            assert!(!limiter.allow(address, at(millis)), "{millis}");
        }
        assert!(
            limiter.allow(address, at(1_020)),
            "the first has left the window"
        );
        assert!(!limiter.allow(address, at(1_020)), "the others have not");
        assert!(limiter.allow(address, at(1_700)));
    }

    #[test]
    fn s15_ipv6_counts_by_64_bits_and_mapped_ipv4_as_ipv4() {
        let mut limiter = RateLimiter::new(1, Duration::from_secs(1)).unwrap();
        assert!(limiter.allow("2001:db8::1".parse().unwrap(), at(0)));
        assert!(!limiter.allow("2001:db8::ffff:2".parse().unwrap(), at(0)));
        assert!(limiter.allow("2001:db8:0:1::1".parse().unwrap(), at(0)));
        assert!(limiter.allow("192.0.2.1".parse().unwrap(), at(0)));
        assert!(!limiter.allow("::ffff:192.0.2.1".parse().unwrap(), at(0)));
    }

    #[test]
    fn s15_memory_is_bounded_in_addresses() {
        let mut limiter = RateLimiter::new(1, Duration::from_secs(1)).unwrap();
        for n in 0..200_000u32 {
            assert!(limiter.allow(IpAddr::V4(n.into()), at(u64::from(n / 100))));
            assert!(limiter.clients.len() <= MAX_ADDRESSES);
        }
    }

    #[test]
    fn no_limit_is_none() {
        assert!(RateLimiter::new(0, Duration::from_secs(1)).is_none());
        assert!(RateLimiter::new(1, Duration::ZERO).is_none());
        assert!(RateLimiter::new(1, Duration::from_nanos(1)).is_some());
    }
}
