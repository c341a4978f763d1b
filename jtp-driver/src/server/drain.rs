//! The graceful end, as connections see it. // S16

use std::io;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use crate::clock::after;
use crate::runtime::{Bell, Runtime};

/// Told to every connection that knew of it before, however late it looks.
#[derive(Debug)]
pub(super) struct Drain<B> {
    pub(super) bell: Arc<B>,
    /// When everything closes; none for never. Set before the bell rings.
    until: OnceLock<Option<Instant>>,
}

impl<B: Bell> Drain<B> {
    fn new() -> io::Result<Drain<B>> {
        Ok(Drain {
            bell: Arc::new(B::new()?),
            until: OnceLock::new(),
        })
    }

    fn begin<R: Runtime>(&self, limit: Option<Duration>) {
        self.until.get_or_init(|| after::<R>(limit));
        self.bell.ring();
    }

    /// When connections are to be gone, once it has begun; none for as long as they like.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.get().copied().flatten()
    }
}

impl<R: Runtime, S: ?Sized> Shared<R, S> {
    /// What tells connections that begin now of the end.
    pub(super) fn drain(&self) -> io::Result<Arc<Drain<R::Bell>>> {
        let mut drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(drain) = &*drain {
            return Ok(Arc::clone(drain));
        }
        let new = Arc::new(Drain::new()?);
        *drain = Some(Arc::clone(&new));
        Ok(new)
    }

    /// The end has come for all that there is; what begins from now on has another one.
    pub(super) fn begin_drain(&self) {
        let mut drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(drain) = drain.take() {
            drain.begin::<R>(self.options.drain);
        }
    }
}
