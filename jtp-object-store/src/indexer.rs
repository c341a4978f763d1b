//! Keeps the catalog in step with the objects of the bucket.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::TryStreamExt;

use crate::catalog::SharedCatalog;
use crate::error::Error;
use crate::lease::Lease;
use crate::names::is_candidate;
use crate::orphans::Orphans;
use crate::pass::Pass;

/// See [`IndexerConfig::compact_after`].
const OBJECTS_PER_LOG: u64 = 2000;
/// Objects that one LIST request returns.
const PAGE: u64 = 1000;

/// How an [`Indexer`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexerConfig {
    /// The least time between two passes. It is longer for a large bucket: 1 s for each 1,000 objects, so that there is
    /// at most one LIST request a second on average. Default: 10 s.
    pub rescan: Duration,
    /// A holder of the lease that ends without releasing it is replaced within this time. Default: 30 s.
    pub lease_expiry: Duration,
    /// Objects that are read at once. Default: 16.
    pub reads: usize,
    /// A snapshot is written after as many log objects, and in a large catalog after one for each 2,000 objects. Default: 256.
    pub compact_after: u64,
}

impl Default for IndexerConfig {
    fn default() -> Self {
        IndexerConfig {
            rescan: Duration::from_secs(10),
            lease_expiry: Duration::from_secs(30),
            reads: 16,
            compact_after: 256,
        }
    }
}

impl IndexerConfig {
    /// Another [`rescan`](Self::rescan).
    #[must_use]
    pub fn with_rescan(mut self, rescan: Duration) -> IndexerConfig {
        self.rescan = rescan;
        self
    }

    /// Another [`lease_expiry`](Self::lease_expiry).
    #[must_use]
    pub fn with_lease_expiry(mut self, expiry: Duration) -> IndexerConfig {
        self.lease_expiry = expiry;
        self
    }

    /// Another [`compact_after`](Self::compact_after).
    #[must_use]
    pub fn with_compact_after(mut self, log_objects: u64) -> IndexerConfig {
        self.compact_after = log_objects;
        self
    }

    /// Another number of [`reads`](Self::reads); at least 1.
    #[must_use]
    pub fn with_reads(mut self, reads: usize) -> IndexerConfig {
        self.reads = reads.max(1);
        self
    }
}

/// What a pass over the bucket did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct IndexReport {
    /// Objects that the bucket listed, without those of the catalog and hidden ones.
    pub listed: u64,
    /// Objects that were read.
    pub read: u64,
    /// Objects that could not be read.
    pub failed: u64,
    /// Changes of the catalog that this pass made.
    pub changes: u64,
}

/// Lists the bucket, reads what is new, and changes the catalog. Any number of processes may have one; the lease decides
/// which of them works.
#[derive(Debug, Clone)]
pub struct Indexer {
    catalog: Arc<SharedCatalog>,
    config: IndexerConfig,
    orphans: Arc<Orphans>,
}

impl Indexer {
    pub(crate) fn new(catalog: Arc<SharedCatalog>, config: IndexerConfig) -> Indexer {
        Indexer {
            catalog,
            config,
            orphans: Arc::default(),
        }
    }

    fn lease(&self) -> Lease {
        let catalog = &self.catalog;
        let bucket = catalog.bucket().clone();
        Lease::new(bucket, catalog.writer(), self.config.lease_expiry)
    }

    /// Indexes whenever this process has the lease, until the future is dropped. Errors are logged, and the work is tried
    /// again.
    pub async fn run(&self) {
        let lease = self.lease();
        loop {
            let mut held = lease.acquire().await;
            tracing::info!("this server indexes the bucket");
            let work = pin!(self.work());
            let keep = pin!(lease.keep(&mut held));
            match select(work, keep).await {
                Either::Right((false, _)) => {
                    tracing::warn!("cannot renew the lease: this server does not index");
                }
                _ => tracing::info!("another server indexes the bucket"),
            }
        }
    }

    /// Makes one pass: for a job that only indexes. It takes the lease, also from a process that has died, and releases it.
    /// If another process renews the lease meanwhile, this one makes its pass without it: then both may read an object.
    /// It also works with a backend that ignores the conditions of puts, where [`run`](Self::run) does not; then only one
    /// process at a time may call it.
    ///
    /// # Errors
    ///
    /// [`Error`] of the pass, or of the third attempt in a row to read or take the lease. What was read before is in the
    /// catalog.
    pub async fn run_once(&self) -> Result<IndexReport, Error> {
        self.catalog.set_sole_writer();
        let lease = self.lease();
        let Some(mut held) = lease.acquire_unless_renewed().await? else {
            tracing::info!("another server indexes the bucket, too");
            return self.pass().await;
        };
        let result = {
            let pass = pin!(self.pass());
            let keep = pin!(lease.keep(&mut held));
            match select(pass, keep).await {
                Either::Left((result, _)) => result,
                Either::Right((_, pass)) => return pass.await,
            }
        };
        if let Err(error) = lease.release().await {
            tracing::debug!(%error, "cannot release the lease");
        }
        result
    }

    /// Gives up the lease if this process holds it: another one takes it within a quarter of the expiry. Called when a
    /// program ends, after the future of [`run`](Self::run) or [`run_once`](Self::run_once) was dropped.
    ///
    /// # Errors
    ///
    /// [`Error`]: the lease cannot be read or written. Others take it over when it has expired.
    pub async fn release(&self) -> Result<(), Error> {
        self.lease().release().await
    }

    async fn work(&self) {
        let clock = Arc::clone(self.catalog.bucket().clock());
        let mut failures = 0;
        loop {
            match self.pass().await {
                Ok(report) => {
                    failures = 0;
                    tracing::debug!(?report, "the bucket was listed");
                    let pages = report.listed / PAGE;
                    clock
                        .sleep(self.config.rescan.max(Duration::from_secs(pages)))
                        .await;
                }
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    if failures == 0 {
                        tracing::warn!(%error, source, "cannot index the bucket; it is tried again");
                    } else {
                        tracing::debug!(%error, source, "cannot index the bucket");
                    }
                    clock.sleep(Duration::from_secs(1 << failures)).await;
                    failures = (failures + 1).min(5);
                }
            }
        }
    }

    /// One pass over the bucket.
    pub(crate) async fn pass(&self) -> Result<IndexReport, Error> {
        self.prepare().await?;
        let was_complete = self.catalog.state().complete;
        let pass = Pass::new(&self.catalog, &self.orphans, self.config.reads);
        let report = pass.run().await?;
        let objects = u64::try_from(self.catalog.state().len()).unwrap_or(u64::MAX);
        let log_len = self.catalog.log_len();
        let is_long = log_len >= self.config.compact_after.max(objects / OBJECTS_PER_LOG);
        if is_long || (!was_complete && log_len > 0) {
            self.catalog.compact().await?;
        }
        Ok(report)
    }

    /// Loads the catalog, or follows it to its end. Begins a new one if there is none, or if it is damaged.
    async fn prepare(&self) -> Result<(), Error> {
        let catalog = &self.catalog;
        let is_loaded = catalog.state().is_loaded();
        let result = match is_loaded {
            true => catalog.pull(true).await.map(drop),
            false => match catalog.reload().await {
                Ok(true) => Ok(()),
                Ok(false) => return catalog.rebase().await,
                Err(error) => Err(error),
            },
        };
        match result {
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "the catalog in the store is damaged; it is made again");
                catalog.rebase().await
            }
            // If there is nothing at all, the file system is not mounted.
            Err(Error::CatalogMissing(_)) if self.has_objects().await? => catalog.rebase().await,
            result => result,
        }
    }

    /// Whether the bucket has anything but what this crate wrote.
    async fn has_objects(&self) -> Result<bool, Error> {
        let bucket = self.catalog.bucket();
        let mut listing = bucket.list_all();
        while let Some(meta) = listing.try_next().await? {
            if bucket.key(&meta.location).is_some_and(is_candidate) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
