//! Turns: how much a connection does before others go on, and who goes on next.
//!
//! A runtime's queue is fair to tasks, not to people: with hundreds of connections that always have something to
//! do, a request that comes now and then would wait for a turn of each. So a connection that had its turn and is
//! not done waits in a queue of its own kind, of which as many are called as there are processors; what was idle
//! never waits in it. // T4

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::available_parallelism;

/// What is done in one turn, as a number of bytes that are read: some ten to a hundred microseconds, also where
/// all of them are IDs that are looked up.
const TURN: usize = 16 * 1024;

/// A byte that is written costs less than one that is read and looked at.
const WRITTEN_FOR_ONE: usize = 16;

/// What a call to the system costs, however little it moves.
const CALL: usize = 1024;

/// What a write costs, however little: small ones share a call.
const WRITE: usize = 256;

/// What is left of a turn.
#[derive(Debug)]
pub(super) struct Turn {
    left: usize,
}

impl Turn {
    /// The most that is read at once, and so the most that is read ahead while a response is under way: whoever
    /// waits for a turn holds no more. // S1
    pub(super) const READ: usize = TURN;

    pub(super) fn begin() -> Turn {
        Turn { left: TURN }
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    pub(super) fn read(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count.max(CALL));
    }

    pub(super) fn wrote(&mut self, count: usize) {
        self.left = self
            .left
            .saturating_sub((count / WRITTEN_FOR_ONE).max(WRITE));
    }
}

/// The connections that have more to do than one turn, in the order of their turns.
#[derive(Debug)]
pub(super) struct Queue {
    most: usize,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// How many are called and have not had their turn.
    called: usize,
    waiting: VecDeque<Arc<Place>>,
}

/// A place in the queue.
#[derive(Debug, Default)]
struct Place {
    called: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// The next turn of one connection. Dropped, it makes room for another's.
pub(super) struct Ticket {
    queue: Arc<Queue>,
    place: Arc<Place>,
}

impl Queue {
    /// For as many at once as there are processors.
    pub(super) fn new() -> Queue {
        Queue::of(available_parallelism().map_or(1, usize::from))
    }

    fn of(most: usize) -> Queue {
        Queue {
            most,
            line: Mutex::default(),
        }
    }

    /// Takes the last place, and has the task woken when it is called.
    pub(super) fn join(self: &Arc<Self>, waker: &Waker) -> Ticket {
        let place = Arc::new(Place {
            called: AtomicBool::new(false),
            waker: Mutex::new(Some(waker.clone())),
        });
        let mut line = self.line();
        line.waiting.push_back(Arc::clone(&place));
        self.call(line);
        Ticket {
            queue: Arc::clone(self),
            place,
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the first, if there is room.
    fn call(&self, mut line: MutexGuard<'_, Line>) {
        if line.called >= self.most {
            return;
        }
        let Some(place) = line.waiting.pop_front() else {
            return;
        };
        line.called += 1;
        place.called.store(true, Ordering::Release);
        drop(line); // A waker may do anything.
        let waker = place.waker().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Place {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_called(&self) -> bool {
        self.called.load(Ordering::Acquire)
    }
}

impl Ticket {
    /// Ready once it is called.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.place.is_called() {
            return Poll::Ready(());
        }
        let mut waker = self.place.waker();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        // It may have been called before the waker was there.
        if self.place.is_called() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut line = self.queue.line();
        if self.place.is_called() {
            line.called -= 1;
        } else {
            line.waiting
                .retain(|place| !Arc::ptr_eq(place, &self.place));
        }
        self.queue.call(line);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.place).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::woken::Woken;

    fn is_called(ticket: &Ticket) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        ticket.poll(&mut cx).is_ready()
    }

    #[test]
    fn so_many_are_called_in_their_order_and_each_is_woken() {
        let queue = Arc::new(Queue::of(2));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut tickets: VecDeque<Ticket> = (0..5).map(|_| queue.join(&waker)).collect();
        for turn in 0..20 {
            let called: Vec<bool> = tickets
                .iter()
                .map(|ticket| ticket.poll(&mut Context::from_waker(&waker)).is_ready())
                .collect();
            assert_eq!(called, [true, true, false, false, false], "{turn}");
            assert_eq!(woken.times(), 2 + turn);
            tickets.pop_front();
            tickets.push_back(queue.join(&waker));
        }
        drop(tickets);
        let line = queue.line();
        assert!(line.called == 0 && line.waiting.is_empty());
    }

    #[test]
    fn who_leaves_the_queue_holds_up_nobody() {
        let queue = Arc::new(Queue::of(1));
        let tickets: [Ticket; 4] = std::array::from_fn(|_| queue.join(Waker::noop()));
        let [first, second, third, fourth] = tickets;
        drop(second); // Before it is called,
        assert!(is_called(&first) && !is_called(&third));
        drop(first); // in its turn,
        assert!(is_called(&third) && !is_called(&fourth));
        drop(third); // and before it has looked.
        assert!(is_called(&fourth));
    }

    #[test]
    fn a_task_that_has_moved_is_woken_where_it_is() {
        let queue = Arc::new(Queue::of(1));
        let first = queue.join(Waker::noop());
        let [before, after] = [(); 2].map(|()| Arc::new(Woken::default()));
        let second = queue.join(&Waker::from(Arc::clone(&before)));
        let waker = Waker::from(Arc::clone(&after));
        assert!(second.poll(&mut Context::from_waker(&waker)).is_pending());
        drop(first);
        assert_eq!(before.times(), 0);
        assert_eq!(after.times(), 1);
    }
}
