//! The catalog's history: the events that WATCH sends, one for each added image, in order. // N1 N2
//!
//! The history is a linked list: each node is a position, and a batch of events leads to the next node. Each
//! publication that adds images appends one batch. A [`Cursor`] owns its node and so all later ones; nodes before
//! the slowest cursor are freed. A watcher needs a cursor only, no queue.
//!
//! Each snapshot has a cursor too, and a slow response keeps its snapshot. To bound the memory, the writer cuts the
//! list: a node that is more than the limit of events behind the last one loses its successors.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

#[cfg(not(feature = "std"))]
use core::cell::RefCell;
#[cfg(feature = "std")]
use std::sync::{Mutex, PoisonError};

#[derive(Debug)]
struct Node {
    /// One allocation for each history, compared by address.
    history: Arc<()>,
    /// The number of events before this position.
    events: u64,
    next: Next,
}

/// What follows a node: a batch once there is one, and nothing after a cut.
#[derive(Debug, Default)]
struct Next {
    #[cfg(feature = "std")]
    state: Mutex<NextState>,
    #[cfg(not(feature = "std"))]
    state: RefCell<NextState>,
}

#[derive(Debug, Default)]
enum NextState {
    /// This is the last node.
    #[default]
    Last,
    /// A batch, which has the next node.
    Batch(Arc<Batch>),
    /// The node was too far behind: its successors are freed. // N2
    Cut,
}

impl Next {
    fn with<T>(&self, f: impl FnOnce(&mut NextState) -> T) -> T {
        #[cfg(feature = "std")]
        // No code under the lock panics, so a poisoned state is complete.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(not(feature = "std"))]
        let mut state = self.state.borrow_mut();
        f(&mut state)
    }
}

/// The events of one publication, and the node after them.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Complete `JTPW` frames, encoded once for all watchers.
    frames: Vec<u8>,
    node: Arc<Node>,
}

impl Batch {
    pub(crate) fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// The position after the batch.
    pub(crate) fn end(&self) -> Cursor {
        Cursor(Arc::clone(&self.node))
    }
}

impl Drop for Node {
    /// Frees a long list in a loop. Without it, dropping recurses once for each node.
    fn drop(&mut self) {
        let mut next = self.next.with(core::mem::take);
        while let NextState::Batch(batch) = next {
            let Some(node) = Arc::into_inner(batch).and_then(|batch| Arc::into_inner(batch.node))
            else {
                return;
            };
            next = node.next.with(core::mem::take);
        }
    }
}

/// A position in a catalog's history of added images. // N2
///
/// It keeps the later events in memory, within the limit of
/// [`CatalogWriter::set_history`](super::CatalogWriter::set_history).
#[derive(Debug, Clone)]
pub struct Cursor(Arc<Node>);

impl Cursor {
    /// The start of a new history.
    pub(super) fn start() -> Cursor {
        Cursor::at(Arc::default(), 0)
    }

    fn at(history: Arc<()>, events: u64) -> Cursor {
        Cursor(Arc::new(Node {
            history,
            events,
            next: Next::default(),
        }))
    }

    /// The number of events before this position, since the history began.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.0.events
    }

    /// Whether both cursors are positions in the history of one [`CatalogWriter`](super::CatalogWriter).
    ///
    /// Each [`Catalog::empty`](super::Catalog::empty) has a history of its own. Compares two addresses.
    #[must_use]
    pub fn same_history(&self, other: &Cursor) -> bool {
        Arc::ptr_eq(&self.0.history, &other.0.history)
    }

    /// The number of events between this position and a later one; 0 if `later` is not later, `None` if the two
    /// belong to different histories. // N2
    #[must_use]
    pub fn behind(&self, later: &Cursor) -> Option<u64> {
        self.same_history(later)
            .then(|| later.0.events.saturating_sub(self.0.events))
    }

    /// The next batch, if there is one and it was not cut off.
    pub(crate) fn next(&self) -> Option<Arc<Batch>> {
        self.0.next.with(|next| match next {
            NextState::Batch(batch) => Some(Arc::clone(batch)),
            NextState::Last | NextState::Cut => None,
        })
    }

    /// Whether later events were discarded: a watcher at this position cannot go on. // N2
    pub(crate) fn is_cut(&self) -> bool {
        self.0.next.with(|next| matches!(next, NextState::Cut))
    }
}

/// The writer's side of the history.
#[derive(Debug)]
pub(super) struct History {
    last: Cursor,
    /// The earlier nodes that a cursor may still own, in order, each with its number of events.
    earlier: VecDeque<(u64, Weak<Node>)>,
    limit: u64,
}

impl History {
    pub(super) fn new() -> History {
        History {
            last: Cursor::start(),
            earlier: VecDeque::new(),
            limit: super::CatalogWriter::HISTORY,
        }
    }

    pub(super) fn last(&self) -> &Cursor {
        &self.last
    }

    /// Sets the number of events that are kept at most. // N2
    pub(super) fn set_limit(&mut self, events: u64) {
        self.limit = events;
        self.cut();
    }

    /// Whether a batch of `events` events is within the limit. A larger one is cut off at once.
    pub(super) fn keeps(&self, events: u64) -> bool {
        events <= self.limit
    }

    /// Appends a batch of `events` events.
    pub(super) fn append(&mut self, events: u64, frames: Vec<u8>) {
        let next = Cursor::at(
            Arc::clone(&self.last.0.history),
            self.last.events() + events,
        );
        let batch = Arc::new(Batch {
            frames,
            node: Arc::clone(&next.0),
        });
        self.last
            .0
            .next
            .with(|next| *next = NextState::Batch(batch));
        let before = core::mem::replace(&mut self.last, next);
        self.earlier
            .push_back((before.events(), Arc::downgrade(&before.0)));
        drop(before);
        self.cut();
    }

    /// Discards events beyond the limit. // N2
    fn cut(&mut self) {
        while let Some((events, node)) = self.earlier.front() {
            // A node owns its successors, so the freed ones are at the front.
            if node.strong_count() > 0 {
                if self.last.events().saturating_sub(*events) <= self.limit {
                    return;
                }
                if let Some(node) = node.upgrade() {
                    // Dropped outside the lock: it may be a long list.
                    let cut = node
                        .next
                        .with(|next| core::mem::replace(next, NextState::Cut));
                    drop(cut);
                }
            }
            self.earlier.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(batches: u64) -> (Cursor, History) {
        let mut history = History::new();
        let first = history.last().clone();
        for _ in 0..batches {
            history.append(1, alloc::vec![0; 40]);
        }
        (first, history)
    }

    #[test]
    fn n2_a_cursor_reads_later_events_and_a_long_history_is_freed_without_recursion() {
        // Miri takes minutes for a long history.
        let batches = if cfg!(miri) { 2_000 } else { 200_000 };
        let (first, history) = history(batches);
        assert_eq!(first.behind(history.last()), Some(batches));
        let next = first.next().map(|batch| batch.end());
        assert_eq!(next.map(|next| next.events()), Some(1));
        assert!(history.last().next().is_none());
        drop(first);
    }

    #[test]
    fn n2_events_beyond_the_limit_are_freed() {
        let (first, mut history) = history(10);
        history.set_limit(12);
        let tenth = history.last().clone();
        history.append(2, Vec::new());
        assert!(!first.is_cut(), "12 events behind");
        let kept = first.next().map(|batch| Arc::downgrade(&batch));
        history.append(1, Vec::new());
        assert!(first.is_cut() && first.next().is_none());
        assert!(kept.is_some_and(|batch| batch.upgrade().is_none()));
        assert!(!tenth.is_cut() && tenth.next().is_some());
        // A batch larger than the limit is cut off at once.
        history.append(13, Vec::new());
        assert!(tenth.is_cut() && !history.last().is_cut());
    }

    #[test]
    fn cursors_of_different_histories_do_not_compare() {
        let (first, one) = history(3);
        let (_, other) = history(5);
        assert!(first.same_history(one.last()) && one.last().same_history(&first));
        assert_eq!(first.behind(one.last()), Some(3));
        assert_eq!(one.last().behind(&first), Some(0));
        assert!(!first.same_history(other.last()));
        assert_eq!(first.behind(other.last()), None);
        // Two histories without events differ too.
        assert!(!Cursor::start().same_history(&Cursor::start()));
    }

    #[test]
    fn n2_nodes_without_a_cursor_are_freed() {
        let (first, mut history) = history(10);
        assert_eq!(history.earlier.len(), 10);
        drop(first);
        history.append(1, Vec::new());
        assert!(history.earlier.is_empty());
    }
}
