//! Drops a client while it waits.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::suite::transport::pipe::MemoryConnection;

thread_local! {
    /// How many more times a future on this thread may return `Pending` before the client is dropped.
    static PENDING_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The panic payload that unwinds the stack and drops everything on it.
struct Dropped;

/// Runs a client. When it waits for the `at`th time, it is dropped together with the pending future; for a blocking
/// client, which cannot be dropped, the stream is closed instead. Returns whether it waited that often.
pub(crate) fn drop_at(at: usize, memory: &Arc<MemoryConnection>, client: impl FnOnce()) -> bool {
    PENDING_LEFT.set(Some(at));
    memory.sever_at(at);
    let result = catch_unwind(AssertUnwindSafe(client));
    PENDING_LEFT.set(None);
    match result {
        Ok(()) => memory.is_severed(),
        Err(panic) if panic.is::<Dropped>() => true,
        Err(panic) => resume_unwind(panic),
    }
}

/// A future that counts how often it returns `Pending`.
pub(crate) struct CountPending<F>(Pin<Box<F>>);

impl<F> CountPending<F> {
    pub(crate) fn new(future: F) -> CountPending<F> {
        CountPending(Box::pin(future))
    }
}

impl<F: Future> Future for CountPending<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.0.as_mut().poll(cx);
        if polled.is_pending() {
            match PENDING_LEFT.get() {
                Some(0) => resume_unwind(Box::new(Dropped)),
                Some(left) => PENDING_LEFT.set(Some(left - 1)),
                None => {}
            }
        }
        polled
    }
}
