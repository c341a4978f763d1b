//! Tasks that end together.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::runtime::{Bell, Runtime};
use crate::wait::or;

/// Tasks that are stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Tasks<B: Bell> {
    running: Arc<Running<B>>,
    stop: Arc<B>,
}

#[derive(Debug)]
struct Running<B> {
    count: AtomicUsize,
    closing: AtomicBool,
    /// Rings when no task runs and none is to come.
    all_done: Arc<B>,
}

/// One task that has not ended; dropped last, also when the task panics.
struct Task<B: Bell>(Arc<Running<B>>);

impl<B: Bell> Drop for Task<B> {
    fn drop(&mut self) {
        let last = self.0.count.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.0.closing.load(Ordering::SeqCst) {
            self.0.all_done.ring();
        }
    }
}

impl<B: Bell> Tasks<B> {
    pub(super) fn new() -> io::Result<Tasks<B>> {
        Ok(Tasks {
            running: Arc::new(Running {
                count: AtomicUsize::new(0),
                closing: AtomicBool::new(false),
                all_done: Arc::new(B::new()?),
            }),
            stop: Arc::new(B::new()?),
        })
    }

    pub(super) fn spawn<R: Runtime<Bell = B>>(
        &self,
        name: impl fmt::Display,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        self.running.count.fetch_add(1, Ordering::SeqCst);
        let running = Task(Arc::clone(&self.running));
        let stop = Arc::clone(&self.stop);
        R::spawn(name, async move {
            // The task first: one whose time is over as well says so itself.
            or(task, stop.rung()).await;
            drop(running);
        })
    }

    pub(super) fn running(&self) -> usize {
        self.running.count.load(Ordering::SeqCst)
    }

    /// Ready once no task runs. None may be spawned from now on.
    pub(super) async fn done(&self) {
        self.running.closing.store(true, Ordering::SeqCst);
        if self.running() > 0 {
            Arc::clone(&self.running.all_done).rung().await;
        }
    }

    /// Ends all tasks where they wait.
    pub(super) fn stop(&self) {
        self.stop.ring();
    }
}

impl<B: Bell> Drop for Tasks<B> {
    fn drop(&mut self) {
        self.stop();
    }
}
