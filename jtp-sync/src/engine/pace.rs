//! Ends responses that bring too few bytes: a byte now and then keeps the response timeout from passing. // T6

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jtp_driver::Runtime;

/// The least number of bytes that a response brings in each second, on average over the response timeout.
pub(super) const MIN_BYTES_PER_SECOND: u64 = 256;

/// The bytes that a response has brought.
#[derive(Debug, Default)]
pub(super) struct Pace {
    bytes: AtomicU64,
    /// The client was the one that did not read, since the last look.
    stalled: AtomicBool,
}

impl Pace {
    pub(super) fn add(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The client has to wait for its own disk or processors.
    pub(super) fn stall(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    /// Returns once too few bytes have come within `window`; never if there is none.
    pub(super) async fn too_slow<R: Runtime>(&self, runtime: &R, window: Option<Duration>) {
        let Some(window) = window else {
            return std::future::pending().await;
        };
        let least = window.as_secs().max(1) * MIN_BYTES_PER_SECOND;
        loop {
            let before = self.bytes.load(Ordering::Relaxed);
            self.stalled.store(false, Ordering::Relaxed);
            runtime.sleep_until(runtime.now() + window).await;
            let brought = self.bytes.load(Ordering::Relaxed).saturating_sub(before);
            if brought < least && !self.stalled.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}
