//! The memory of a server for images on their way, shared by its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of connections of a server that use large chunks at a time. A peer that stops reading keeps what was
/// loaded for it: two chunks of an image, the ranges of it that are being read, and the first chunk of the next image.
const MAX_LARGE: usize = 64;

/// The bytes of images that a server has opened ahead, for all connections, beside the first chunk of the next image of
/// each.
const MAX_AHEAD: usize = 64 << 20;

/// The memory that a server has for images on their way to all connections.
#[derive(Debug, Default)]
pub(in crate::server) struct MemoryBudget {
    /// The number of connections that use large chunks.
    large: AtomicUsize,
    /// The bytes that are reserved for images that were opened ahead.
    ahead: AtomicUsize,
}

/// One connection's right to use large chunks; returned when dropped.
#[derive(Debug)]
pub(super) struct Share(Arc<MemoryBudget>);

impl MemoryBudget {
    pub(super) fn share(self: &Arc<Self>) -> Option<Share> {
        let take_one = |used| (used < MAX_LARGE).then_some(used + 1);
        let order = Ordering::Relaxed;
        let taken = self.large.fetch_update(order, order, take_one);
        taken.is_ok().then(|| Share(Arc::clone(self)))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.large.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one connection has reserved of the budget for images that are opened ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    budget: Arc<MemoryBudget>,
    held: AtomicUsize,
}

/// Reserved bytes; returned when dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    by: Arc<Ahead>,
    pub(super) bytes: usize,
}

impl Ahead {
    pub(super) fn new(budget: Arc<MemoryBudget>) -> Arc<Ahead> {
        Arc::new(Ahead {
            budget,
            held: AtomicUsize::new(0),
        })
    }

    /// Reserves bytes, never waiting, if the connection then holds neither more than `max` nor more than it leaves free:
    /// `n` peers that do not read hold `n` of `n + 1` parts of the budget, and another connection finds the last one.
    pub(super) fn reserve(self: &Arc<Self>, bytes: usize, max: usize) -> Option<Arc<Reserved>> {
        let order = Ordering::Relaxed;
        let held = self.held.load(order).saturating_add(bytes);
        if held > max {
            return None;
        }
        let take = |used: usize| {
            let after = used.checked_add(bytes)?;
            (held <= MAX_AHEAD.checked_sub(after)?).then_some(after)
        };
        self.budget.ahead.fetch_update(order, order, take).ok()?;
        self.held.store(held, order);
        Some(Arc::new(Reserved {
            by: Arc::clone(self),
            bytes,
        }))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.by.held.fetch_sub(self.bytes, Ordering::Relaxed);
        let ahead = &self.by.budget.ahead;
        ahead.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
