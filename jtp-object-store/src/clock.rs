//! Time, as far as this crate needs it.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use jtp_driver::Runtime;
use jtp_driver::store::BoxFuture;

/// A monotonic clock with timers. [`RuntimeClock`] is that of a JTP runtime.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Instant;

    /// A future that completes after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;
}

/// The clock of a JTP runtime: `RuntimeClock(jtp_tokio::Tokio::default())`, for example.
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_structs, reason = "a wrapper of one value")]
pub struct RuntimeClock<R>(pub R);

impl<R: Runtime> Clock for RuntimeClock<R> {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let runtime = self.0.clone();
        // Created when it is polled first: a timer of tokio needs a runtime around it.
        Box::pin(async move {
            let now = runtime.now();
            let deadline = now
                .checked_add(duration)
                .unwrap_or(now + Duration::from_secs(86_400));
            runtime.sleep_until(deadline).await;
        })
    }
}

/// The future's output, or `None` if it takes longer.
pub(crate) async fn timeout<T>(
    clock: &dyn Clock,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(future), clock.sleep(limit)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}
