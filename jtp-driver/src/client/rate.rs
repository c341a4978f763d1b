//! Limits the rate at which clients receive.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::connection::MAX_READ;
use crate::runtime::{BoxTransport, Runtime, Sleep, SockRef, Transport};

/// The least rate of [`ClientBuilder::max_rate`](super::ClientBuilder::max_rate), in bytes per second: every connection has
/// to receive its minimum of bytes in time. // T6
pub const MIN_RATE: u64 = 16 * 1024;

/// The system's receive buffer can grow to some megabytes. Once full, it accepts nothing until much of it was read; a server
/// takes that for a client that has gone, after 30 s. Below this rate it is kept small. // T4
const SLOW: u64 = 512 * 1024;

/// Enough for that rate if a round trip takes half a second, and for several segments of the loopback device.
const SLOW_BUFFER: usize = 256 * 1024;

/// Time that was not used can be made up for: a timer completes late.
const BURST: Duration = Duration::from_millis(100);

/// A rate for all connections together.
#[derive(Debug)]
pub(super) struct RateLimit {
    bytes_per_second: u64,
    /// When as much as was read is permitted.
    due: Mutex<Option<Instant>>,
}

impl RateLimit {
    pub(super) fn new(bytes_per_second: u64) -> RateLimit {
        RateLimit {
            bytes_per_second: bytes_per_second.max(MIN_RATE),
            due: Mutex::new(None),
        }
    }

    /// The most bytes to read at once: what is permitted in 50 ms.
    fn max_read(&self) -> usize {
        usize::try_from(self.bytes_per_second / 20).map_or(MAX_READ, |bytes| bytes.min(MAX_READ))
    }

    /// When the next bytes may be read, if not now.
    fn wait(&self, now: Instant) -> Option<Instant> {
        let due = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.filter(|due| *due > now)
    }

    fn record(&self, bytes: usize, now: Instant) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second);
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        *due = due.unwrap_or(now).max(earliest).checked_add(time);
    }
}

/// A transport that is read from at a limited rate.
pub(super) struct Limited<R: Runtime> {
    io: BoxTransport,
    runtime: R,
    limit: Arc<RateLimit>,
    timer: Option<R::Sleep>,
}

impl<R: Runtime> Limited<R> {
    pub(super) fn new(io: BoxTransport, runtime: R, limit: Arc<RateLimit>) -> Limited<R> {
        if let Some(socket) = io.socket().filter(|_| limit.bytes_per_second < SLOW) {
            if let Err(error) = socket.set_recv_buffer_size(SLOW_BUFFER) {
                tracing::debug!(%error, "the receive buffer cannot be limited");
            }
        }
        Limited {
            io,
            runtime,
            limit,
            timer: None,
        }
    }
}

impl<R: Runtime> Transport for Limited<R> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        while let Some(due) = self.limit.wait(self.runtime.now()) {
            let timer = self
                .timer
                .get_or_insert_with(|| self.runtime.sleep_until(due));
            timer.reset(due);
            ready!(std::pin::Pin::new(timer).poll(cx));
        }
        let count = buf.len().min(self.limit.max_read());
        let buf = buf.get_mut(..count).unwrap_or_default();
        let read = ready!(self.io.poll_read(cx, buf));
        if let Ok(bytes) = read {
            self.limit.record(bytes, self.runtime.now());
        }
        Poll::Ready(read)
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_write_vectored(cx, bufs)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_close(cx)
    }

    fn socket(&self) -> Option<SockRef<'_>> {
        self.io.socket()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_a_rate_and_make_up_for_100_ms_at_most() {
        let limit = RateLimit::new(1_000_000);
        let start = Instant::now();
        let read = |from: Instant, end: Instant| {
            let (mut now, mut bytes) = (from, 0);
            while now < end {
                // Timers complete 3 ms late.
                now = limit.wait(now).unwrap_or(now) + Duration::from_millis(3);
                limit.record(limit.max_read(), now);
                bytes += limit.max_read();
            }
            bytes
        };
        let second = Duration::from_secs(1);
        let first = read(start, start + 10 * second);
        assert!((9_950_000..=10_150_000).contains(&first), "{first}");
        // What was not read in the meantime is not made up for.
        let after = read(start + 20 * second, start + 21 * second);
        assert!((900_000..=1_200_000).contains(&after), "{after}");
        assert_eq!(RateLimit::new(1).bytes_per_second, MIN_RATE);
    }
}
