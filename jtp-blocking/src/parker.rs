//! The waker of a thread.
//!
//! ```text
//!            begin_wait               wake: writes the descriptor
//!   EMPTY ───────────────▶ PARKED ─────────────────────────────────▶ NOTIFIED
//!     ▲ ◀──────────────────┘                                          ▲   │
//!     │       end_wait                     wake: no system call       │   │
//!     ├───────────────────────────────────────────────────────────────┘   │
//!     └───────────────────────────────────────────────────────────────────┘
//!                              clear, end_wait
//! ```

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::Wake;

use crate::wake_fd::WakeFd;

/// The thread runs, and was not woken since it last polled its future.
const EMPTY: u8 = 0;
/// The thread is in poll(2), or about to be.
const PARKED: u8 = 1;
/// The thread was woken and has to poll its future.
const NOTIFIED: u8 = 2;

/// Wakes one thread from poll(2). A waker that outlives its thread has no effect, but keeps the descriptor open.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    state: AtomicU8,
    /// Opened by the thread before its first wait.
    fd: OnceLock<WakeFd>,
    warned: AtomicBool,
    #[cfg(test)]
    writes: std::sync::atomic::AtomicUsize,
}

impl Parker {
    /// Forgets all earlier wakes: the caller polls its future next.
    pub(crate) fn clear(&self) {
        self.state.swap(EMPTY, Ordering::AcqRel);
    }

    /// Announces that the thread is going to wait. Returns false if it was woken in the meantime and must not wait.
    pub(crate) fn begin_wait(&self) -> bool {
        self.state
            .compare_exchange(EMPTY, PARKED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Ends a wait that [`begin_wait`](Parker::begin_wait) began. The caller polls its future next.
    pub(crate) fn end_wait(&self) {
        self.clear();
    }

    /// The descriptor that is readable once the waiting thread is woken. `None` if it cannot be opened.
    ///
    /// Only the thread itself calls this, before [`begin_wait`](Parker::begin_wait), so that whoever finds the thread
    /// waiting finds the descriptor.
    pub(crate) fn fd(&self) -> Option<&WakeFd> {
        if self.fd.get().is_none() {
            match WakeFd::new() {
                Ok(fd) => {
                    let _ = self.fd.set(fd);
                }
                Err(error) if !self.warned.swap(true, Ordering::Relaxed) => {
                    tracing::warn!(%error, "cannot open the descriptor that wakes a thread");
                }
                Err(_) => {}
            }
        }
        self.fd.get()
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == PARKED {
            if let Some(fd) = self.fd.get() {
                #[cfg(test)]
                self.writes.fetch_add(1, Ordering::SeqCst);
                fd.write();
            }
        }
    }
}

#[cfg(test)]
impl Parker {
    /// The number of system calls that wakes have made.
    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn wakes_of_a_running_thread_make_no_system_call() {
        let parker = Arc::new(Parker::default());
        parker.fd().unwrap();
        let waker = Waker::from(Arc::clone(&parker));
        for _ in 0..1000 {
            waker.wake_by_ref();
        }
        assert_eq!(parker.writes(), 0);
        assert!(!parker.begin_wait());
        parker.clear();
        assert!(parker.begin_wait());
    }

    #[test]
    fn wakes_of_a_waiting_thread_write_the_descriptor_once() {
        let parker = Arc::new(Parker::default());
        parker.fd().unwrap();
        let waker = Waker::from(Arc::clone(&parker));
        assert!(parker.begin_wait());
        for _ in 0..1000 {
            waker.wake_by_ref();
        }
        assert_eq!(parker.writes(), 1);
        parker.end_wait();
        waker.wake();
        assert_eq!(parker.writes(), 1);
    }
}
