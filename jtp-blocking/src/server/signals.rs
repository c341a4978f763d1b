//! What wakes connections that wait for their peers: the end of the server, and news of the catalog.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use jtp_core::Catalog;
use jtp_store::{LiveCatalog, Watch};

use crate::clock::{after, left};
use crate::stream::Bell;

/// Ends a [`Server`](super::Server) from another thread. A handle: clones are the same signal.
///
/// In the async crates any future does this.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<Bell>);

impl Shutdown {
    /// A signal that has not been given.
    ///
    /// # Errors
    ///
    /// The process has no file descriptors left.
    pub fn new() -> io::Result<Shutdown> {
        Ok(Shutdown(Arc::new(Bell::new()?)))
    }

    /// Gives the signal, for good.
    pub fn begin(&self) {
        self.0.ring();
    }

    /// Whether it was given.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.is_rung()
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.0
    }
}

/// The graceful end, as connections see it. // S16
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) bell: Bell,
    /// When everything closes; none for never. Set before the bell rings.
    until: OnceLock<Option<Instant>>,
}

impl Drain {
    pub(super) fn new() -> io::Result<Drain> {
        Ok(Drain {
            bell: Bell::new()?,
            until: OnceLock::new(),
        })
    }

    pub(super) fn begin(&self, limit: Option<Duration>) {
        self.until.get_or_init(|| after(limit));
        self.bell.ring();
    }

    /// How long connections may still go on; none for as long as they like.
    pub(super) fn left(&self) -> Option<Duration> {
        self.until.get().copied().flatten().map(left)
    }
}

/// One bell for all watchers. It is never cleared: after it has rung the next to ask gets a new one.
#[derive(Default)]
pub(super) struct Newsroom(Mutex<Option<Edition>>);

struct Edition {
    bell: Arc<Bell>,
    /// Rings the bell. It is polled once and then only kept.
    _listening: Pin<Box<dyn Future<Output = Arc<Catalog>> + Send>>,
}

impl Newsroom {
    /// A bell that rings at the next change of the catalog: ask for it first, then look.
    fn bell(&self, live: &LiveCatalog) -> io::Result<Arc<Bell>> {
        let mut edition = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*edition {
            Some(edition) if !edition.bell.is_rung() => return Ok(Arc::clone(&edition.bell)),
            _ => {}
        }
        let bell = Arc::new(Bell::new()?);
        let mut watch = live.watch();
        let mut listening = Box::pin(async move { watch.changed().await });
        let waker = Waker::from(Arc::clone(&bell));
        if listening
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            bell.ring();
        }
        *edition = Some(Edition {
            bell: Arc::clone(&bell),
            _listening: listening,
        });
        Ok(bell)
    }
}

impl fmt::Debug for Newsroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newsroom").finish_non_exhaustive()
    }
}

/// What a watching connection waits for. // N1
pub(super) struct News {
    watch: Watch,
    bell: Option<Arc<Bell>>,
}

impl News {
    pub(super) fn since(live: &LiveCatalog, generation: u64) -> News {
        News {
            watch: live.watch_since(generation),
            bell: None,
        }
    }

    /// The catalog, if it is a later one than was seen.
    pub(super) fn take(
        &mut self,
        newsroom: &Newsroom,
        live: &LiveCatalog,
    ) -> io::Result<Option<Arc<Catalog>>> {
        match &self.bell {
            Some(bell) if !bell.is_rung() => Ok(None),
            _ => {
                self.bell = Some(newsroom.bell(live)?);
                Ok(self.watch.try_changed())
            }
        }
    }

    pub(super) fn bell(&self) -> Option<&Bell> {
        self.bell.as_deref()
    }
}
