//! Bounds the requests that are under way at once.

use std::sync::{Mutex, PoisonError};

use event_listener::Event;

/// A number of permits.
#[derive(Debug)]
pub(crate) struct Permits {
    free: Mutex<usize>,
    returned: Event,
}

/// Returned when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Permits);

impl Permits {
    pub(crate) fn new(count: usize) -> Permits {
        Permits {
            free: Mutex::new(count),
            returned: Event::new(),
        }
    }

    fn try_acquire(&self) -> Option<Permit<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Permit(self))
    }

    /// Waits for a permit. Dropping the future gives up the place.
    pub(crate) async fn acquire(&self) -> Permit<'_> {
        loop {
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            let listener = self.returned.listen();
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            listener.await;
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free += 1;
        drop(free);
        self.0.returned.notify_additional(1);
    }
}
