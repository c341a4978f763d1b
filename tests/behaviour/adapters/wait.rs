//! Waiting for futures.

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Runtime};

/// The tokio runtime shared by all tests.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap()
    })
}

/// Polls a future once. If it is pending, it is dropped; `None` is returned when it would have been woken.
pub(crate) struct PollOnce<F> {
    future: Option<Pin<Box<F>>>,
}

impl<F> PollOnce<F> {
    pub(crate) fn new(future: F) -> PollOnce<F> {
        let future = Some(Box::pin(future));
        PollOnce { future }
    }
}

impl<F: Future> Future for PollOnce<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut future) = self.future.take() else {
            return Poll::Ready(None);
        };
        future.as_mut().poll(cx).map(Some)
    }
}
