//! The catalog's history: each image that entered it, in order, as WATCH tells it. // N1 N2
//!
//! A chain of places with a batch of events between each and the next, one batch for each published change
//! that brought new images. A [`Cursor`] holds its place and so the chain from there on; what lies before
//! the slowest cursor is freed by itself. A watcher is thus a place in the history, never a queue of its own.
//!
//! A snapshot holds a place too, and a slow response holds its snapshot. So that neither keeps more than the
//! bound, the writer cuts the chain: a place more than so many events behind the last one loses what follows it.

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
    /// How many events there were up to here.
    events: u64,
    next: Next,
}

/// What follows a place: set once, and cut once.
#[derive(Debug, Default)]
struct Next {
    #[cfg(feature = "std")]
    link: Mutex<Link>,
    #[cfg(not(feature = "std"))]
    link: RefCell<Link>,
}

#[derive(Debug, Default)]
enum Link {
    /// Nothing yet.
    #[default]
    Open,
    /// A batch, and the place behind it.
    To(Arc<Batch>),
    /// It was too far behind. // N2
    Cut,
}

impl Next {
    fn with<T>(&self, look: impl FnOnce(&mut Link) -> T) -> T {
        #[cfg(feature = "std")]
        // Nothing that is done under the lock can panic and leave half a link.
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(not(feature = "std"))]
        let mut link = self.link.borrow_mut();
        look(&mut link)
    }
}

/// One change's new images, and the place behind them.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Whole `JTPW` frames, encoded once for all watchers.
    frames: Vec<u8>,
    node: Arc<Node>,
}

impl Batch {
    pub(crate) fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// The place behind the batch.
    pub(crate) fn end(&self) -> Cursor {
        Cursor(Arc::clone(&self.node))
    }
}

impl Drop for Node {
    /// Frees a long chain in a loop: the derived way would recurse once a place.
    fn drop(&mut self) {
        let mut next = self.next.with(core::mem::take);
        while let Link::To(batch) = next {
            let Some(node) = Arc::into_inner(batch).and_then(|batch| Arc::into_inner(batch.node))
            else {
                return;
            };
            next = node.next.with(core::mem::take);
        }
    }
}

/// A place in the history: all events up to it have been seen.
#[derive(Debug, Clone)]
pub struct Cursor(Arc<Node>);

impl Cursor {
    /// The place before the first event.
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

    /// How many events the history has had up to this place.
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

    /// Number of events between this position and a later one; 0 if `later` is not later, `None` if the two
    /// belong to different histories. // N2
    #[must_use]
    pub fn behind(&self, later: &Cursor) -> Option<u64> {
        self.same_history(later)
            .then(|| later.0.events.saturating_sub(self.0.events))
    }

    /// The batch that follows, if there is one yet and it is still kept.
    pub(crate) fn next(&self) -> Option<Arc<Batch>> {
        self.0.next.with(|link| match link {
            Link::To(batch) => Some(Arc::clone(batch)),
            Link::Open | Link::Cut => None,
        })
    }

    /// Whether what followed is not kept any more: whoever is here has missed events. // N2
    pub(crate) fn is_cut(&self) -> bool {
        self.0.next.with(|link| matches!(link, Link::Cut))
    }
}

/// The writer's end of the history.
#[derive(Debug)]
pub(super) struct History {
    last: Cursor,
    /// The places that someone may still hold, in order, each with its count of events.
    held: VecDeque<(u64, Weak<Node>)>,
    bound: u64,
}

impl History {
    pub(super) fn new() -> History {
        History {
            last: Cursor::start(),
            held: VecDeque::new(),
            bound: super::CatalogWriter::HISTORY,
        }
    }

    pub(super) fn last(&self) -> &Cursor {
        &self.last
    }

    /// How many events are kept at most.
    pub(super) fn set_bound(&mut self, events: u64) {
        self.bound = events;
        self.cut();
    }

    /// Whether a batch of so many events could be told to anyone.
    pub(super) fn keeps(&self, events: u64) -> bool {
        events <= self.bound
    }

    /// Appends a batch behind the last place.
    pub(super) fn append(&mut self, events: u64, frames: Vec<u8>) {
        let next = Cursor::at(
            Arc::clone(&self.last.0.history),
            self.last.events() + events,
        );
        let batch = Arc::new(Batch {
            frames,
            node: Arc::clone(&next.0),
        });
        self.last.0.next.with(|link| *link = Link::To(batch));
        let before = core::mem::replace(&mut self.last, next);
        self.held
            .push_back((before.events(), Arc::downgrade(&before.0)));
        drop(before);
        self.cut();
    }

    /// Lets go of what is further back than the bound. // N2
    fn cut(&mut self) {
        while let Some((events, node)) = self.held.front() {
            // Each place keeps those behind it, so what nobody holds is at the front.
            if node.strong_count() > 0 {
                if self.last.events().saturating_sub(*events) <= self.bound {
                    return;
                }
                if let Some(node) = node.upgrade() {
                    // Dropped outside the lock: it may be a long chain.
                    let cut = node.next.with(|link| core::mem::replace(link, Link::Cut));
                    drop(cut);
                }
            }
            self.held.pop_front();
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
    fn n2_a_cursor_reads_on_from_its_place_and_a_long_chain_is_freed_without_recursion() {
        // Miri takes minutes for a long one.
        let batches = if cfg!(miri) { 2_000 } else { 200_000 };
        let (first, history) = history(batches);
        assert_eq!(first.behind(history.last()), Some(batches));
        let next = first.next().map(|batch| batch.end());
        assert_eq!(next.map(|next| next.events()), Some(1));
        assert!(history.last().next().is_none());
        drop(first);
    }

    #[test]
    fn n2_places_further_back_than_the_bound_are_cut_and_their_events_freed() {
        let (first, mut history) = history(10);
        history.set_bound(12);
        let tenth = history.last().clone();
        history.append(2, Vec::new());
        assert!(!first.is_cut(), "12 behind");
        let kept = first.next().map(|batch| Arc::downgrade(&batch));
        history.append(1, Vec::new());
        assert!(first.is_cut() && first.next().is_none());
        assert!(kept.is_some_and(|batch| batch.upgrade().is_none()));
        assert!(!tenth.is_cut() && tenth.next().is_some());
        // One batch that is over the bound by itself reaches nobody.
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
    fn n2_what_nobody_holds_is_not_kept() {
        let (first, mut history) = history(10);
        assert_eq!(history.held.len(), 10);
        drop(first);
        history.append(1, Vec::new());
        assert!(history.held.is_empty());
    }
}
