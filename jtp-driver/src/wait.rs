//! Small futures.

use std::future::poll_fn;
#[cfg(any(feature = "client", feature = "server"))]
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::clock::after;
use crate::runtime::Runtime;

/// The output of the future that is ready first; of `a` if both are. Drops the other one.
pub(crate) async fn race<T>(a: impl Future<Output = T>, b: impl Future<Output = T>) -> T {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx| match a.as_mut().poll(cx) {
        Poll::Pending => b.as_mut().poll(cx),
        ready => ready,
    })
    .await
}

/// Lets other tasks run once.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for `work`, at most for `limit`; `None` if the time ran out. `work` is dropped then, so it loses what it would
/// lose if the caller dropped it.
pub async fn timeout<R: Runtime, T>(
    runtime: &R,
    limit: Option<Duration>,
    work: impl Future<Output = T>,
) -> Option<T> {
    match after(runtime, limit) {
        Some(deadline) => {
            let expired = async {
                runtime.sleep_until(deadline).await;
                None
            };
            race(async { Some(work.await) }, expired).await
        }
        None => Some(work.await),
    }
}

/// Waits for `work`, at most for `limit`.
#[cfg(any(feature = "client", feature = "server"))]
pub(crate) async fn timeout_io<R: Runtime, T>(
    runtime: &R,
    limit: Option<Duration>,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let expired = || Err(io::Error::new(io::ErrorKind::TimedOut, "timed out"));
    timeout(runtime, limit, work).await.unwrap_or_else(expired)
}
