//! A signal that is given once and that any number of tasks wait for.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use event_listener::Event;

/// Asks any number of tasks, on any runtime, to stop. A handle: clones are the same signal.
///
/// ```
/// use jtp_driver::ShutdownSignal;
///
/// let signal = ShutdownSignal::new();
/// let stopped = signal.clone();
/// let task = smol::spawn(async move { stopped.wait().await });
/// signal.begin();
/// smol::block_on(task);
/// assert!(signal.has_begun());
/// ```
#[derive(Debug, Clone, Default)]
pub struct ShutdownSignal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    begun: AtomicBool,
    event: Event,
}

impl ShutdownSignal {
    /// A signal that has not been given.
    #[must_use]
    pub fn new() -> ShutdownSignal {
        ShutdownSignal::default()
    }

    /// Gives the signal, for good.
    pub fn begin(&self) {
        self.0.begun.store(true, Ordering::SeqCst);
        self.0.event.notify(usize::MAX);
    }

    /// Whether the signal was given.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.begun.load(Ordering::SeqCst)
    }

    /// Waits for the signal. Ready at once if it was given before. Cancel safe.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let inner = Arc::clone(&self.0);
        async move {
            let mut listener = None;
            let mut waker: Option<Waker> = None;
            poll_fn(|cx| {
                if inner.begun.load(Ordering::SeqCst) {
                    return Poll::Ready(());
                }
                // All listeners share a lock: a task polled for another reason does not take it.
                if waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    return Poll::Pending;
                }
                waker = Some(cx.waker().clone());
                // Listen first, then look again: a signal in between wakes the listener.
                let listener = listener.get_or_insert_with(|| inner.event.listen());
                let woken = Pin::new(listener).poll(cx).is_ready();
                if woken || inner.begun.load(Ordering::SeqCst) {
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::counting_waker::CountingWaker;

    #[test]
    fn wakes_the_task_that_polled_last_and_is_ready_for_late_waiters() {
        let signal = ShutdownSignal::new();
        let mut waiting = Box::pin(signal.wait());
        let tasks: [Arc<CountingWaker>; 2] = Default::default();
        let wakers = tasks.clone().map(Waker::from);
        for waker in [&wakers[0], &wakers[0], &wakers[1], &wakers[1]] {
            let mut cx = Context::from_waker(waker);
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
        }
        signal.begin();
        assert_eq!(tasks.map(|task| task.count()), [0, 1]);
        let mut cx = Context::from_waker(&wakers[0]);
        assert!(waiting.as_mut().poll(&mut cx).is_ready());
        let mut late = Box::pin(signal.wait());
        assert!(late.as_mut().poll(&mut cx).is_ready());
    }
}
