//! The clock that the core is told the time from.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_lite::future::or;
use jtp_core::Time;

use crate::runtime::sleep;

/// Tells the time since it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(&self) -> Time {
        Time::since_epoch(self.0.elapsed())
    }

    fn instant(&self, time: Time) -> Instant {
        // A deadline beyond what the clock can tell is never reached; a day is as good.
        let day = Duration::from_secs(86_400);
        self.0
            .checked_add(time.elapsed())
            .unwrap_or_else(|| Instant::now() + day)
    }
}

/// Wakes its task at a deadline that moves with every byte.
///
/// A deadline that moves on is the usual case, and does not touch the timer: it rings at the old time, finds
/// that nothing is due, and is set anew.
#[derive(Default)]
pub(crate) struct Alarm(Option<(Instant, Sleep)>);

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alarm")
            .field(&self.0.as_ref().map(|(at, _)| at))
            .finish()
    }
}

impl Alarm {
    /// Ready once the deadline has passed.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: &Clock,
        deadline: Option<Time>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        let at = clock.instant(deadline);
        loop {
            match &mut self.0 {
                Some((rings_at, sleep)) if *rings_at <= at => {
                    if sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.0 = None;
                }
                _ => {
                    let now = Instant::now();
                    if at <= now {
                        return Poll::Ready(());
                    }
                    self.0 = Some((at, Box::pin(sleep(at - now))));
                }
            }
        }
    }
}

/// Does `work` for at most `limit`.
pub(crate) async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let Some(limit) = limit else {
        return work.await;
    };
    let over = async {
        sleep(limit).await;
        Err(io::Error::new(io::ErrorKind::TimedOut, "timed out"))
    };
    or(work, over).await
}
