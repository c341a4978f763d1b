//! Request rate by client. // S15

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use jtp_core::Time;

use super::ClientId;

/// The window is counted in this many parts. A request counts until its part has left the window, so at most one part
/// longer than the window.
const PARTS: u32 = 64;

/// The number of addresses that are remembered. Beyond it those without a request for the longest time are forgotten.
const MAX_ADDRESSES: usize = 65_536;

/// Counts requests by client address (IPv6 by /64) in a sliding window. // S15
///
/// It uses at most a few hundred bytes for an address, remembers at most 65,536 addresses, and forgets an address after a
/// window without requests.
///
/// ```
/// use std::time::Duration;
///
/// use jtp_core::Time;
/// use jtp_driver::server::limits::RateLimiter;
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
    clients: BTreeMap<ClientId, Window>,
    /// The part in which idle addresses were last removed.
    swept: u64,
}

#[derive(Debug, Default)]
struct Window {
    /// Parts with requests, oldest first: the part's number, and its number of requests.
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
    /// Allows `limit` requests in each window and address; `None` (no limit) if either is zero.
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

    /// Counts a request from this address if it is allowed. A refused request does not count.
    pub fn allow(&mut self, address: IpAddr, now: Time) -> bool {
        self.allow_client(ClientId::at(address), now)
    }

    /// Counts a request of this client if it is allowed.
    pub(in crate::server) fn allow_client(&mut self, client: ClientId, now: Time) -> bool {
        let ticks = now.elapsed().as_nanos() / self.part.as_nanos();
        let part = u64::try_from(ticks).unwrap_or(u64::MAX);
        let oldest = part.saturating_sub(u64::from(PARTS));
        self.sweep(part, oldest);
        let window = self.clients.entry(client).or_default();
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

    /// Forgets idle addresses, once a window or when there are too many.
    fn sweep(&mut self, part: u64, oldest: u64) {
        let full = self.clients.len() >= MAX_ADDRESSES;
        if part.saturating_sub(self.swept) <= u64::from(PARTS) && !full {
            return;
        }
        self.swept = part;
        // When there are too many, half an idle window is enough to be forgotten.
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
    fn s15_memory_is_bounded_in_addresses() {
        let mut limiter = RateLimiter::new(1, Duration::from_secs(1)).unwrap();
        for n in 0..200_000u32 {
            assert!(limiter.allow(IpAddr::V4(n.into()), at(u64::from(n / 100))));
            assert!(limiter.clients.len() <= MAX_ADDRESSES);
        }
    }

    #[test]
    fn s15_clients_with_a_key_count_apart_from_their_address() {
        let mut limiter = RateLimiter::new(1, Duration::from_secs(1)).unwrap();
        let address = [192, 0, 2, 1].into();
        for key in [[1; 32], [2; 32]] {
            assert!(limiter.allow_client(ClientId::Key(key), at(0)));
            assert!(!limiter.allow_client(ClientId::Key(key), at(0)));
        }
        assert!(limiter.allow(address, at(0)));
        assert!(!limiter.allow(address, at(0)));
    }

    #[test]
    fn no_limit_is_none() {
        assert!(RateLimiter::new(0, Duration::from_secs(1)).is_none());
        assert!(RateLimiter::new(1, Duration::ZERO).is_none());
        assert!(RateLimiter::new(1, Duration::from_nanos(1)).is_some());
    }
}
