//! Fair scheduling: how much a connection does in one turn, and who continues next.
//!
//! A runtime's run queue is fair to tasks. With hundreds of connections that always have more to do, a connection with
//! an occasional request would still wait for a turn of each of them. So a connection that used up its turn waits in a
//! queue of this server, of which only as many run at a time as there are processors; a connection that was idle never
//! waits here. // T4

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::available_parallelism;

/// The work of one turn, counted in bytes that are read: some ten to a hundred microseconds, also if all of them are
/// IDs to look up.
const TURN: usize = 16 * 1024;

/// A written byte costs less than a byte that is read and parsed.
const WRITTEN_PER_READ: usize = 16;

/// The cost of a read call, however few bytes it returns.
const READ_CALL: usize = 1024;

/// The cost of a write, however short: small writes share a call.
const WRITE: usize = 256;

/// The cost of looking up an ID, like that of reading one.
const LOOKUP: usize = 8;

/// The work that is left in a turn.
#[derive(Debug)]
pub(super) struct Turn {
    left: usize,
}

impl Turn {
    /// The most bytes that are read at once, and so the most that are read ahead while a response is under way. // S1
    pub(super) const MAX_READ: usize = TURN;

    pub(super) fn begin() -> Turn {
        Turn { left: TURN }
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    pub(super) fn read(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count.max(READ_CALL));
    }

    pub(super) fn looked_up(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count.saturating_mul(LOOKUP));
    }

    pub(super) fn wrote(&mut self, count: usize) {
        self.left = self
            .left
            .saturating_sub((count / WRITTEN_PER_READ).max(WRITE));
    }
}

/// The queue of connections that have more to do than one turn.
#[derive(Debug)]
pub(super) struct FairScheduler {
    max_running: usize,
    queue: Mutex<TurnQueue>,
}

#[derive(Debug, Default)]
struct TurnQueue {
    /// The number of connections that were scheduled and have not finished their turn.
    running: usize,
    waiting: VecDeque<Arc<Waiting>>,
}

/// A connection in the queue.
#[derive(Debug, Default)]
struct Waiting {
    scheduled: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// A connection's next turn. Dropping it lets another connection run.
pub(super) struct NextTurn {
    scheduler: Arc<FairScheduler>,
    waiting: Arc<Waiting>,
}

impl FairScheduler {
    /// Runs as many connections at a time as there are processors.
    pub(super) fn new() -> FairScheduler {
        FairScheduler::with_max_running(available_parallelism().map_or(1, usize::from))
    }

    fn with_max_running(max_running: usize) -> FairScheduler {
        FairScheduler {
            max_running,
            queue: Mutex::default(),
        }
    }

    /// Joins the end of the queue. `waker` is woken when the turn comes.
    pub(super) fn enqueue(self: &Arc<Self>, waker: &Waker) -> NextTurn {
        let waiting = Arc::new(Waiting {
            scheduled: AtomicBool::new(false),
            waker: Mutex::new(Some(waker.clone())),
        });
        let mut queue = self.lock();
        queue.waiting.push_back(Arc::clone(&waiting));
        self.schedule(queue);
        NextTurn {
            scheduler: Arc::clone(self),
            waiting,
        }
    }

    fn lock(&self) -> MutexGuard<'_, TurnQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Schedules the first connection of the queue, if one may run.
    fn schedule(&self, mut queue: MutexGuard<'_, TurnQueue>) {
        if queue.running >= self.max_running {
            return;
        }
        let Some(waiting) = queue.waiting.pop_front() else {
            return;
        };
        queue.running += 1;
        waiting.scheduled.store(true, Ordering::Release);
        drop(queue); // A waker may do anything.
        let waker = waiting.waker().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Waiting {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_scheduled(&self) -> bool {
        self.scheduled.load(Ordering::Acquire)
    }
}

impl NextTurn {
    /// Ready once the turn has come.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_scheduled() {
            return Poll::Ready(());
        }
        let mut waker = self.waiting.waker();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        // It may have been scheduled before the waker was stored.
        if self.waiting.is_scheduled() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for NextTurn {
    fn drop(&mut self) {
        let mut queue = self.scheduler.lock();
        if self.waiting.is_scheduled() {
            queue.running -= 1;
        } else {
            queue
                .waiting
                .retain(|waiting| !Arc::ptr_eq(waiting, &self.waiting));
        }
        self.scheduler.schedule(queue);
    }
}

impl fmt::Debug for NextTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NextTurn").field(&self.waiting).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counting_waker::CountingWaker;

    fn is_scheduled(turn: &NextTurn) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        turn.poll(&mut cx).is_ready()
    }

    #[test]
    fn connections_run_in_order_and_each_is_woken() {
        let scheduler = Arc::new(FairScheduler::with_max_running(2));
        let woken = Arc::new(CountingWaker::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut turns: VecDeque<NextTurn> = (0..5).map(|_| scheduler.enqueue(&waker)).collect();
        for round in 0..20 {
            let scheduled: Vec<bool> = turns
                .iter()
                .map(|turn| turn.poll(&mut Context::from_waker(&waker)).is_ready())
                .collect();
            assert_eq!(scheduled, [true, true, false, false, false], "{round}");
            assert_eq!(woken.count(), 2 + round);
            turns.pop_front();
            turns.push_back(scheduler.enqueue(&waker));
        }
        drop(turns);
        let queue = scheduler.lock();
        assert!(queue.running == 0 && queue.waiting.is_empty());
    }

    #[test]
    fn a_dropped_turn_lets_the_next_connection_run() {
        let scheduler = Arc::new(FairScheduler::with_max_running(1));
        let turns: [NextTurn; 4] = std::array::from_fn(|_| scheduler.enqueue(Waker::noop()));
        let [first, second, third, fourth] = turns;
        drop(second); // Before it is scheduled,
        assert!(is_scheduled(&first) && !is_scheduled(&third));
        drop(first); // during its turn,
        assert!(is_scheduled(&third) && !is_scheduled(&fourth));
        drop(third); // and before it was polled.
        assert!(is_scheduled(&fourth));
    }

    #[test]
    fn the_waker_of_the_last_poll_is_woken() {
        let scheduler = Arc::new(FairScheduler::with_max_running(1));
        let first = scheduler.enqueue(Waker::noop());
        let [before, after] = [(); 2].map(|()| Arc::new(CountingWaker::default()));
        let second = scheduler.enqueue(&Waker::from(Arc::clone(&before)));
        let waker = Waker::from(Arc::clone(&after));
        assert!(second.poll(&mut Context::from_waker(&waker)).is_pending());
        drop(first);
        assert_eq!(before.count(), 0);
        assert_eq!(after.count(), 1);
    }
}
