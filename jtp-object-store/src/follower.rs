//! Follows the catalog, and corrects it where a server found another object.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event_listener::Event;
use futures_util::future::join;

use crate::bucket::identity_of;
use crate::catalog::{Proposal, SharedCatalog};
use crate::error::Error;
use crate::read_object::read_object;

/// How often the heads are listed, at least.
const HEADS_INTERVAL: Duration = Duration::from_secs(60);
/// The part of the poll interval that is left for the requests that read a log object and publish it.
const REQUESTS_PART: u32 = 4;
/// Attempts to read an object that is replaced again and again.
const ATTEMPTS: usize = 3;
/// The most objects that wait for a correction. The indexer finds the others.
const MAX_CORRECTIONS: usize = 4096;

/// The keys of objects that are not what the catalog says.
#[derive(Debug, Default)]
pub(crate) struct Corrections {
    /// And whether the object is read even if its identity is the recorded one.
    keys: Mutex<BTreeMap<Box<str>, bool>>,
    added: Event,
}

impl Corrections {
    pub(crate) fn add(&self, key: &str, read_anyway: bool) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < MAX_CORRECTIONS || keys.contains_key(key) {
            *keys.entry(key.into()).or_default() |= read_anyway;
        }
        drop(keys);
        self.added.notify(usize::MAX);
    }

    fn next(&self) -> Option<(Box<str>, bool)> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.pop_first()
    }
}

/// Follows the catalog of a bucket.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) catalog: Arc<SharedCatalog>,
    pub(crate) corrections: Arc<Corrections>,
    pub(crate) poll: Duration,
}

impl Follower {
    /// Follows and corrects, each without waiting for the other: an object may take long to be read.
    pub(crate) async fn run(&self) {
        join(self.follow_always(), self.correct_always()).await;
    }

    async fn follow_always(&self) {
        let clock = Arc::clone(self.catalog.bucket().clock());
        let mut heads_checked = clock.now();
        let mut is_failing = false;
        loop {
            let mut began = clock.now();
            let check_heads = began.saturating_duration_since(heads_checked) >= HEADS_INTERVAL;
            match self.follow(check_heads).await {
                Ok(count) => {
                    if check_heads {
                        heads_checked = began;
                    }
                    if std::mem::take(&mut is_failing) {
                        tracing::info!("the object store answers again");
                    }
                    if count > 0 {
                        continue; // There may be more.
                    }
                }
                Err(error) => {
                    if std::mem::replace(&mut is_failing, true) {
                        tracing::debug!(%error, "cannot follow the catalog");
                    } else {
                        let source = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::warn!(%error, source, "cannot follow the catalog; it is tried again");
                    }
                    began = clock.now();
                }
            }
            let next = began + self.poll - self.poll / REQUESTS_PART;
            clock
                .sleep(next.saturating_duration_since(clock.now()))
                .await;
        }
    }

    /// Reads the log once.
    pub(crate) async fn follow(&self, check_heads: bool) -> Result<usize, Error> {
        if self.catalog.state().is_loaded() {
            return self.catalog.pull(check_heads).await;
        }
        self.catalog.reload().await.map(|_| 0)
    }

    /// Corrects the catalog where that is due.
    async fn correct_always(&self) {
        loop {
            let added = self.corrections.added.listen();
            let Some((key, read_anyway)) = self.corrections.next() else {
                added.await;
                continue;
            };
            if let Err(error) = self.correct(&key, read_anyway).await {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, source, "cannot correct the catalog");
            }
        }
    }

    /// Looks at an object again, and changes its record if it is another one. // S13
    pub(crate) async fn correct(&self, key: &str, read_anyway: bool) -> Result<(), Error> {
        let bucket = self.catalog.bucket();
        let Some(path) = bucket.path(key) else {
            return Ok(());
        };
        for _ in 0..ATTEMPTS {
            let before = self.catalog.state().get(key);
            let Some(known) = &before else {
                return Ok(()); // The indexer finds it.
            };
            let after = match bucket.head(&path).await? {
                None => None,
                Some(meta) => {
                    let identity = identity_of(&meta);
                    if identity == known.identity && !read_anyway {
                        return Ok(());
                    }
                    match read_object(bucket, key, &path, &identity).await? {
                        None => continue, // Replaced meanwhile.
                        Some(contents) => Some(self.catalog.record(identity, contents)),
                    }
                }
            };
            let proposal = Proposal {
                key: key.into(),
                before,
                after,
            };
            self.catalog.commit(vec![proposal], false).await?;
            return Ok(());
        }
        Ok(())
    }
}
