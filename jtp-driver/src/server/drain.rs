//! The graceful end of a server, and the connections that it waits for. // S16

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use event_listener::Event;

use crate::signal::ShutdownSignal;

/// The connections that are served until a shutdown, and that shutdown. Connections that begin after it belong to
/// another one.
#[derive(Debug, Default)]
pub(super) struct Drain {
    pub(super) signal: ShutdownSignal,
    /// When everything closes; `None` in it for never. Set before the signal is given.
    deadline: OnceLock<Option<Instant>>,
    open: AtomicUsize,
    closed: Event,
}

/// A connection that the shutdown waits for; counted until it is dropped, also by a panic.
#[derive(Debug)]
pub(super) struct OpenConnection(Arc<Drain>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.closed.notify(usize::MAX);
        }
    }
}

impl Drain {
    /// Counts a connection.
    pub(super) fn connection(self: &Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::SeqCst);
        OpenConnection(Arc::clone(self))
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Begins the shutdown.
    pub(super) fn begin(&self, deadline: Option<Instant>) {
        self.deadline.get_or_init(|| deadline);
        self.signal.begin();
    }

    /// When connections have to be closed, once the shutdown has begun; `None` for no limit.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied().flatten()
    }

    /// Ready once no connection is open.
    pub(super) async fn all_closed(&self) {
        loop {
            let closed = self.closed.listen();
            if self.open() == 0 {
                return;
            }
            closed.await;
        }
    }
}
