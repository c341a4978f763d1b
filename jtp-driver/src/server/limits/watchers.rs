//! The number of connections that watch, in total and by client. // T8

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;

use super::{ClientId, LogThrottle};

/// Limits the watchers. Over the limit a new watcher evicts the oldest idle one of the client that has the most. So one
/// client cannot keep others from watching, and one that connects again after a loss is admitted. // T8
#[derive(Debug)]
pub(in crate::server) struct WatcherLimiter {
    max: Option<NonZeroUsize>,
    watchers: Mutex<Watchers>,
}

#[derive(Debug, Default)]
struct Watchers {
    total: usize,
    /// The number of the next watcher.
    next: u64,
    by_client: HashMap<ClientId, ClientWatchers>,
    /// The number of watchers and the oldest one of each client. Last is the client with the most; among equals the one
    /// with the oldest watcher.
    order: BTreeSet<(usize, Reverse<u64>, ClientId)>,
    evicted: u64,
    log: LogThrottle,
}

/// By number, which is by age.
type ClientWatchers = BTreeMap<u64, Arc<WatcherState>>;

#[derive(Debug, Default)]
struct WatcherState {
    /// Whether output is not sent yet.
    busy: AtomicBool,
    evicted: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// A connection that watches, as counted; no longer when dropped.
#[derive(Debug)]
pub(in crate::server) struct WatcherPermit {
    limiter: Arc<WatcherLimiter>,
    client: ClientId,
    number: u64,
    state: Arc<WatcherState>,
}

impl WatcherLimiter {
    pub(in crate::server) fn new(max: Option<NonZeroUsize>) -> WatcherLimiter {
        WatcherLimiter {
            max,
            watchers: Mutex::default(),
        }
    }

    /// Counts a new watcher, and evicts another one if there are too many. `None` if there is no limit.
    pub(in crate::server) fn admit(
        self: &Arc<Self>,
        client: ClientId,
        now: Instant,
    ) -> Option<WatcherPermit> {
        let max = self.max?.get();
        let state = Arc::new(WatcherState::default());
        let mut watchers = self.lock();
        let number = watchers.next;
        watchers.next += 1;
        watchers.insert(client, number, Arc::clone(&state));
        let evicted = if watchers.total > max {
            watchers.evict(now)
        } else {
            None
        };
        drop(watchers); // A waker may do anything.
        if let Some(evicted) = evicted {
            evicted.evict();
        }
        Some(WatcherPermit {
            limiter: Arc::clone(self),
            client,
            number,
            state,
        })
    }

    /// The number of watchers that were evicted.
    pub(in crate::server) fn evicted(&self) -> u64 {
        self.lock().evicted
    }

    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watchers {
    fn insert(&mut self, client: ClientId, number: u64, state: Arc<WatcherState>) {
        self.change(client, |watchers| {
            watchers.insert(number, state);
        });
        self.total += 1;
    }

    fn remove(&mut self, client: ClientId, number: u64) {
        let mut removed = false;
        self.change(client, |watchers| {
            removed = watchers.remove(&number).is_some();
        });
        self.total -= usize::from(removed);
    }

    /// Changes the watchers of a client, and its position in the order.
    fn change(&mut self, client: ClientId, change: impl FnOnce(&mut ClientWatchers)) {
        let position = |watchers: &ClientWatchers| {
            let (&oldest, _) = watchers.first_key_value()?;
            Some((watchers.len(), Reverse(oldest), client))
        };
        let watchers = self.by_client.entry(client).or_default();
        if let Some(position) = position(watchers) {
            self.order.remove(&position);
        }
        change(watchers);
        match position(watchers) {
            Some(position) => drop(self.order.insert(position)),
            None => drop(self.by_client.remove(&client)),
        }
    }

    /// Removes the oldest idle watcher of the client that has the most; its oldest one if none is idle.
    fn evict(&mut self, now: Instant) -> Option<Arc<WatcherState>> {
        let &(of_client, _, client) = self.order.last()?;
        let watchers = self.by_client.get(&client)?;
        let idle = watchers.iter().find(|(_, state)| !state.is_busy());
        let (&number, state) = idle.or_else(|| watchers.first_key_value())?;
        let state = Arc::clone(state);
        self.remove(client, number);
        self.evicted += 1;
        if let Some(count) = self.log.record(now) {
            let watchers = self.total;
            tracing::warn!(
                %client, of_client, watchers, count,
                "too many watchers: the oldest of the client that has the most is ended"
            );
        }
        Some(state)
    }
}

impl WatcherState {
    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    fn evict(&self) {
        self.evicted.store(true, Ordering::SeqCst);
        let waker = self.waker().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatcherPermit {
    /// Whether the watcher has to end. The task is woken when it has to.
    pub(in crate::server) fn poll_evicted(&self, cx: &mut Context<'_>) -> bool {
        let mut waker = self.state.waker();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        self.state.evicted.load(Ordering::SeqCst)
    }

    /// Notes whether output of the watcher is not sent yet.
    pub(in crate::server) fn set_busy(&self, busy: bool) {
        self.state.busy.store(busy, Ordering::Relaxed);
    }
}

impl Drop for WatcherPermit {
    fn drop(&mut self) {
        self.limiter.lock().remove(self.client, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counting_waker::CountingWaker;

    struct Test(Arc<WatcherLimiter>);

    impl Test {
        fn new(max: usize) -> Test {
            Test(Arc::new(WatcherLimiter::new(NonZeroUsize::new(max))))
        }

        fn watch(&self, last: u8) -> WatcherPermit {
            let client = ClientId::at([192, 0, 2, last].into());
            self.0.admit(client, Instant::now()).unwrap()
        }
    }

    fn is_evicted(permit: &WatcherPermit) -> bool {
        permit.poll_evicted(&mut Context::from_waker(Waker::noop()))
    }

    fn evicted(permits: &[WatcherPermit]) -> Vec<usize> {
        let evicted = |(n, permit)| is_evicted(permit).then_some(n);
        permits.iter().enumerate().filter_map(evicted).collect()
    }

    #[test]
    fn t8_the_flood_of_one_client_evicts_its_own_oldest_watchers() {
        let test = Test::new(10);
        let honest: Vec<WatcherPermit> = (1..=4).map(|last| test.watch(last)).collect();
        let flood: Vec<WatcherPermit> = (0..50).map(|_| test.watch(9)).collect();
        let late = test.watch(5);
        assert_eq!(evicted(&honest), []);
        assert!(!is_evicted(&late));
        // Six places were left, and the late one took another.
        assert_eq!(evicted(&flood), (0..45).collect::<Vec<usize>>());
        assert_eq!(test.0.evicted(), 45);
        drop((honest, flood, late));
        let watchers = test.0.lock();
        assert!(watchers.total == 0 && watchers.by_client.is_empty() && watchers.order.is_empty());
    }

    #[test]
    fn t8_idle_watchers_are_evicted_before_those_with_events_to_send() {
        let test = Test::new(3);
        let watchers = [test.watch(1), test.watch(1), test.watch(1)];
        watchers[0].set_busy(true);
        let fourth = test.watch(1);
        assert_eq!(evicted(&watchers), [1]);
        watchers[2].set_busy(true);
        fourth.set_busy(true);
        let other = test.watch(2);
        assert_eq!(evicted(&watchers), [0, 1], "all busy: the oldest");
        assert!(!is_evicted(&fourth) && !is_evicted(&other));
    }

    #[test]
    fn t8_among_clients_with_equally_many_watchers_the_oldest_watcher_is_evicted() {
        let test = Test::new(3);
        let watchers: Vec<WatcherPermit> = [1, 2, 3, 4, 5].map(|last| test.watch(last)).into();
        assert_eq!(evicted(&watchers), [0, 1]);
        drop(watchers);
        assert_eq!(test.0.lock().total, 0);
    }

    #[test]
    fn t8_an_evicted_watcher_is_woken_and_one_that_ended_makes_room() {
        let test = Test::new(1);
        let first = test.watch(1);
        let woken = Arc::new(CountingWaker::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(!first.poll_evicted(&mut Context::from_waker(&waker)));
        drop(test.watch(1));
        assert_eq!(woken.count(), 1);
        assert!(first.poll_evicted(&mut Context::from_waker(&waker)));
        let second = test.watch(1);
        assert!(!is_evicted(&second));
        drop(second);
        let third = test.watch(2);
        assert!(!is_evicted(&third));
        assert_eq!(test.0.evicted(), 1);
    }

    #[test]
    fn t8_without_a_limit_watchers_are_not_counted() {
        let limiter = Arc::new(WatcherLimiter::new(None));
        let client = ClientId::at([192, 0, 2, 1].into());
        assert!(limiter.admit(client, Instant::now()).is_none());
    }
}
