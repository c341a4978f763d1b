//! One pass over the bucket: what is new is read, and what has gone is removed.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt};
use jtp_core::ImageId;
use jtp_driver::store::BoxFuture;
use object_store::ObjectMeta;

use crate::bucket::{Bucket, identity_of};
use crate::catalog::{Proposal, SharedCatalog};
use crate::error::Error;
use crate::format::{Contents, Identity, Object};
use crate::indexer::IndexReport;
use crate::names::is_candidate;
use crate::orphans::Orphans;
use crate::read_object::read_object;

/// Changes are appended when there are as many.
const BATCH: usize = 1000;
/// Changes are appended after this time.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// A pass ends if as many objects in a row cannot be read.
const MAX_FAILURES: u64 = 32;

/// A pass that is under way.
pub(crate) struct Pass<'a> {
    catalog: &'a Arc<SharedCatalog>,
    max_reads: usize,
    listing: Option<BoxStream<'static, Result<ObjectMeta, Error>>>,
    /// Hashes of the keys that were listed.
    listed: HashSet<u64>,
    /// Variants that were listed, of images that the catalog does not have.
    variants: Vec<ImageId>,
    orphans: &'a Orphans,
    reads: FuturesUnordered<BoxFuture<Looked>>,
    changes: Vec<Proposal>,
    /// When the changes are appended.
    timer: Option<BoxFuture<()>>,
    failures: u64,
    report: IndexReport,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.catalog.end_pass();
    }
}

enum Event {
    Listed(Option<Result<ObjectMeta, Error>>),
    Read(Box<Looked>),
    Flush,
}

/// An object that was read.
struct Looked {
    key: Box<str>,
    before: Option<Object>,
    identity: Identity,
    /// `None` if it was replaced meanwhile.
    result: Result<Option<Contents>, Error>,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(
        catalog: &'a Arc<SharedCatalog>,
        orphans: &'a Orphans,
        max_reads: usize,
    ) -> Pass<'a> {
        Pass {
            catalog,
            max_reads,
            listing: None,
            listed: HashSet::new(),
            variants: Vec::new(),
            orphans,
            reads: FuturesUnordered::new(),
            changes: Vec::new(),
            timer: None,
            failures: 0,
            report: IndexReport::default(),
        }
    }

    pub(crate) async fn run(mut self) -> Result<IndexReport, Error> {
        self.catalog.begin_pass();
        self.listing = Some(self.catalog.bucket().list_all());
        while self.listing.is_some() || !self.reads.is_empty() {
            match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Listed(None) => self.listing = None,
                Event::Listed(Some(meta)) => self.look(&meta?),
                Event::Read(looked) => self.take(*looked)?,
                Event::Flush => self.append().await?,
            }
            if self.changes.len() >= BATCH {
                self.append().await?;
            }
        }
        // The listing had no error, so what it did not contain has gone.
        let gone = self.catalog.unlisted(&self.listed);
        if !gone.is_empty() {
            // An error if the catalog has gone, too: the file system is not mounted.
            self.catalog.pull(true).await?;
        }
        let gone = gone.into_iter();
        self.changes.extend(gone.map(|(key, object)| Proposal {
            key,
            before: Some(object),
            after: None,
        }));
        let changes = std::mem::take(&mut self.changes);
        let made = self.catalog.commit(changes, true).await?;
        self.report.changes += u64::try_from(made).unwrap_or(0);
        let variants = std::mem::take(&mut self.variants);
        self.orphans.delete_old(self.catalog, variants).await?;
        Ok(self.report)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let has_room = self.reads.len() < self.max_reads;
        if let Some(listing) = self.listing.as_mut().filter(|_| has_room) {
            if let Poll::Ready(next) = listing.poll_next_unpin(cx) {
                return Poll::Ready(Event::Listed(next));
            }
        }
        if let Poll::Ready(Some(looked)) = self.reads.poll_next_unpin(cx) {
            return Poll::Ready(Event::Read(Box::new(looked)));
        }
        match self.timer.as_mut().map(|timer| timer.poll_unpin(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Event::Flush),
            _ => Poll::Pending,
        }
    }

    /// Begins to read a listed object, unless its record is of the same one.
    fn look(&mut self, meta: &ObjectMeta) {
        let bucket = self.catalog.bucket();
        let Some(key) = bucket.key(&meta.location) else {
            return;
        };
        if let Some(id) = Bucket::variant_of(key) {
            Orphans::note(self.catalog, id, &mut self.variants);
        }
        if !is_candidate(key) {
            return;
        }
        self.report.listed += 1;
        self.listed.insert(self.catalog.hash(key));
        let identity = identity_of(meta);
        let before = self.catalog.state().get(key);
        let is_known = before
            .as_ref()
            .is_some_and(|object| object.identity == identity);
        if is_known || !identity.is_encodable() {
            return;
        }
        let (bucket, key, path) = (bucket.clone(), Box::from(key), meta.location.clone());
        self.reads.push(Box::pin(async move {
            let result = read_object(&bucket, &key, &path, &identity).await;
            Looked {
                key,
                before,
                identity,
                result,
            }
        }));
    }

    fn take(&mut self, looked: Looked) -> Result<(), Error> {
        self.report.read += 1;
        let contents = match looked.result {
            Ok(Some(contents)) => contents,
            Ok(None) => return Ok(()), // The next pass finds what it is then.
            Err(error) => {
                self.report.failed += 1;
                self.failures += 1;
                if self.failures >= MAX_FAILURES {
                    return Err(error);
                }
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, source, "cannot read an object");
                return Ok(());
            }
        };
        self.failures = 0;
        self.changes.push(Proposal {
            key: looked.key,
            before: looked.before,
            after: Some(self.catalog.record(looked.identity, contents)),
        });
        if self.timer.is_none() {
            self.timer = Some(self.catalog.bucket().clock().sleep(BATCH_TIME));
        }
        Ok(())
    }

    async fn append(&mut self) -> Result<(), Error> {
        self.timer = None;
        let changes = std::mem::take(&mut self.changes);
        let made = self.catalog.commit(changes, false).await?;
        self.report.changes += u64::try_from(made).unwrap_or(0);
        Ok(())
    }
}
