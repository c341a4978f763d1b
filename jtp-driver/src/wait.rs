//! Small futures.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::clock::after;
use crate::runtime::Runtime;

/// What is ready first; `a` if both are. The other is dropped.
pub(crate) async fn or<T>(a: impl Future<Output = T>, b: impl Future<Output = T>) -> T {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx| match a.as_mut().poll(cx) {
        Poll::Pending => b.as_mut().poll(cx),
        ready => ready,
    })
    .await
}

/// Lets others have their turn.
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

/// Waits for at most so long; `None` once that is over.
pub async fn timeout<R: Runtime, T>(
    limit: Option<Duration>,
    work: impl Future<Output = T>,
) -> Option<T> {
    match after::<R>(limit) {
        Some(until) => {
            let over = async {
                R::sleep_until(until).await;
                None
            };
            or(async { Some(work.await) }, over).await
        }
        None => Some(work.await),
    }
}

/// Does `work` for at most `limit`.
pub(crate) async fn within<R: Runtime, T>(
    limit: Option<Duration>,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let over = || Err(io::Error::new(io::ErrorKind::TimedOut, "timed out"));
    timeout::<R, _>(limit, work).await.unwrap_or_else(over)
}
