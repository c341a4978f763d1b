//! Tasks that end together, and a signal that many wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use event_listener::Event;
use futures_lite::future::or;

use crate::runtime::spawn;

/// A flag to wait for.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    given: AtomicBool,
    changed: Event,
}

impl Signal {
    pub(crate) fn set(&self, given: bool) {
        self.given.store(given, Ordering::SeqCst);
        self.changed.notify(usize::MAX);
    }

    /// Ready once the flag is set.
    pub(crate) async fn wait(&self) {
        while !self.given.load(Ordering::SeqCst) {
            // The listener first, then the look: what comes between the two wakes the listener.
            let listener = self.changed.listen();
            if !self.given.load(Ordering::SeqCst) {
                listener.await;
            }
        }
    }
}

/// Tasks that are stopped when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    running: AtomicUsize,
    all_done: Event,
    stop: Signal,
}

/// One task that has not ended; dropped last, also when the task panics.
struct Running(Arc<Inner>);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.all_done.notify(usize::MAX);
        }
    }
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(Arc::clone(&self.0));
        spawn(async move {
            or(running.0.stop.wait(), task).await;
            drop(running);
        });
    }

    pub(crate) fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    /// Ready once no task runs.
    pub(crate) async fn done(&self) {
        while self.running() > 0 {
            let listener = self.0.all_done.listen();
            if self.running() > 0 {
                listener.await;
            }
        }
    }

    /// Ends all tasks where they wait.
    pub(crate) async fn stop(&self) {
        self.0.stop.set(true);
        self.done().await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.stop.set(true);
    }
}
