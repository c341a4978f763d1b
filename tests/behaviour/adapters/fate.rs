//! Dropping a client while it waits.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::suite::transport::pipe::Wire;

thread_local! {
    /// How often what is waited for on this thread may still be pending.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// What unwinds the stack, and drops all that is on it.
struct Dropped;

/// Runs a client. When it waits for the `at`th time it is dropped, with the future that it waits for; a client
/// that cannot be dropped then finds its stream closed. Whether it came to that.
pub(crate) fn drop_at(at: usize, wire: &Arc<Wire>, client: impl FnOnce()) -> bool {
    LEFT.set(Some(at));
    wire.sever_at(at);
    let result = catch_unwind(AssertUnwindSafe(client));
    LEFT.set(None);
    match result {
        Ok(()) => wire.is_severed(),
        Err(panic) if panic.is::<Dropped>() => true,
        Err(panic) => resume_unwind(panic),
    }
}

/// A future that counts how often it is pending.
pub(crate) struct Fated<F>(Pin<Box<F>>);

impl<F> Fated<F> {
    pub(crate) fn new(future: F) -> Fated<F> {
        Fated(Box::pin(future))
    }
}

impl<F: Future> Future for Fated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.0.as_mut().poll(cx);
        if polled.is_pending() {
            match LEFT.get() {
                Some(0) => resume_unwind(Box::new(Dropped)),
                Some(left) => LEFT.set(Some(left - 1)),
                None => {}
            }
        }
        polled
    }
}
