//! Signals that many wait for.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use event_listener::Event;

use crate::runtime::Bell;

/// A [`Bell`] for any runtime whose wakers wake from any thread.
#[derive(Debug, Default)]
pub struct EventBell {
    rung: AtomicBool,
    event: Event,
}

impl Bell for EventBell {
    fn new() -> io::Result<EventBell> {
        Ok(EventBell::default())
    }

    fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        self.event.notify(usize::MAX);
    }

    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }

    async fn rung(self: Arc<Self>) {
        let mut listener = None;
        let mut waker: Option<Waker> = None;
        poll_fn(|cx| {
            if self.is_rung() {
                return Poll::Ready(());
            }
            // All who wait share the event's lock: a task that is polled for another reason leaves it alone.
            if waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            waker = Some(cx.waker().clone());
            // The listener first, then the look: what comes between the two wakes the listener.
            let listener = listener.get_or_insert_with(|| self.event.listen());
            if Pin::new(listener).poll(cx).is_ready() || self.is_rung() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::woken::Woken;

    #[test]
    fn it_wakes_the_task_that_polled_last_and_whoever_comes_later_is_told_at_once() {
        let bell = Arc::new(EventBell::new().unwrap());
        let mut rung = Box::pin(Arc::clone(&bell).rung());
        let tasks: [Arc<Woken>; 2] = Default::default();
        let wakers = tasks.clone().map(Waker::from);
        for waker in [&wakers[0], &wakers[0], &wakers[1], &wakers[1]] {
            let mut cx = Context::from_waker(waker);
            assert!(rung.as_mut().poll(&mut cx).is_pending());
        }
        bell.ring();
        let woken = tasks.map(|task| task.times());
        assert_eq!(woken, [0, 1]);
        let mut cx = Context::from_waker(&wakers[0]);
        assert!(rung.as_mut().poll(&mut cx).is_ready());
        let mut late = Box::pin(bell.rung());
        assert!(late.as_mut().poll(&mut cx).is_ready());
    }
}
