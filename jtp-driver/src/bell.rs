//! Signals that many wait for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_listener::Event;

use crate::runtime::Bell;

/// A [`Bell`] for any runtime whose wakers wake from any thread.
#[derive(Debug, Default)]
pub struct EventBell {
    rung: AtomicBool,
    event: Event,
}

impl Bell for EventBell {
    fn new() -> io::Result<EventBell> {
        Ok(EventBell::default())
    }

    fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        self.event.notify(usize::MAX);
    }

    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }

    async fn rung(self: Arc<Self>) {
        while !self.is_rung() {
            // The listener first, then the look: what comes between the two wakes the listener.
            let listener = self.event.listen();
            if !self.is_rung() {
                listener.await;
            }
        }
    }
}
