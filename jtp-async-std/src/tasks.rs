//! Tasks that end together, and a signal that many wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use event_listener::Event;
use futures_lite::future::or;

use crate::runtime::spawn;

/// A signal that can be given again and again.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    given: AtomicUsize,
    changed: Event,
}

impl Signal {
    pub(crate) fn give(&self) {
        self.given.fetch_add(1, Ordering::SeqCst);
        self.changed.notify(usize::MAX);
    }

    /// How often it was given.
    pub(crate) fn count(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }

    /// Ready once it was given more often than `seen` times: who knows the count from before hears of it,
    /// however late it looks.
    pub(crate) async fn wait(&self, seen: usize) {
        while self.count() == seen {
            // The listener first, then the look: what comes between the two wakes the listener.
            let listener = self.changed.listen();
            if self.count() == seen {
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
            or(running.0.stop.wait(0), task).await;
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
        self.0.stop.give();
        self.done().await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.stop.give();
    }
}
