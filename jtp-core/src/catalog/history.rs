//! The catalog's history: each image that entered it, in order, as WATCH tells it. // N1 N2
//!
//! A chain of places with a batch of events between each and the next, one batch for each published change
//! that brought new images. A [`Cursor`] holds its place and so the chain from there on; what lies before
//! the slowest cursor is freed by itself. A watcher is thus a place in the history, never a queue of its own.

use alloc::sync::Arc;
use alloc::vec::Vec;

#[cfg(not(feature = "std"))]
use core::cell::OnceCell as Once;
#[cfg(feature = "std")]
use std::sync::OnceLock as Once;

#[derive(Debug)]
struct Node {
    /// How many events there were up to here.
    events: u64,
    next: Once<Link>,
}

/// One change's new images, and the place behind them.
#[derive(Debug)]
struct Link {
    /// Whole `JTPW` frames, encoded once for all watchers.
    frames: Vec<u8>,
    node: Arc<Node>,
}

impl Drop for Node {
    /// Frees a long chain in a loop: the derived way would recurse once a place.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut node) = next.and_then(|link| Arc::into_inner(link.node)) {
            next = node.next.take();
        }
    }
}

/// A place in the history: all events up to it have been seen.
#[derive(Debug, Clone)]
pub struct Cursor(Arc<Node>);

impl Cursor {
    /// The place before the first event.
    pub(super) fn start() -> Cursor {
        Cursor(Arc::new(Node {
            events: 0,
            next: Once::new(),
        }))
    }

    /// How many events the history has had up to this place.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.0.events
    }

    /// How many events lie between this place and a later one. // N2
    #[must_use]
    pub fn behind(&self, later: &Cursor) -> u64 {
        later.0.events.saturating_sub(self.0.events)
    }

    /// The `JTPW` frames of the batch that follows, if there is one yet.
    pub(crate) fn frames(&self) -> Option<&[u8]> {
        self.0.next.get().map(|link| link.frames.as_slice())
    }

    /// The place behind that batch.
    pub(crate) fn next(&self) -> Option<Cursor> {
        self.0.next.get().map(|link| Cursor(Arc::clone(&link.node)))
    }

    /// Appends a batch behind the last place. Only the one writer of a catalog does this, once a place.
    pub(super) fn append(&self, events: u64, frames: Vec<u8>) -> Cursor {
        let node = Arc::new(Node {
            events: self.0.events + events,
            next: Once::new(),
        });
        // There is one writer and it always appends at its end, so the link is free.
        let _ = self.0.next.set(Link {
            frames,
            node: Arc::clone(&node),
        });
        Cursor(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n2_a_cursor_reads_on_from_its_place_and_a_long_chain_is_freed_without_recursion() {
        let first = Cursor::start();
        let mut last = first.clone();
        for _ in 0..200_000 {
            last = last.append(1, Vec::new());
        }
        assert_eq!(first.behind(&last), 200_000);
        assert_eq!(first.next().map(|next| next.events()), Some(1));
        assert!(last.next().is_none());
        drop(first);
    }
}
