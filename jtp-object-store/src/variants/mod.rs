//! Encoded variants of images: objects beside the catalog, which the process makes that needs one first. // S9
//!
//! A variant is `.jtp/v1/variant/ID`: the Zstd data as they are sent. It is created once and does not change. Its length
//! and checksum are in the record of the image, so that others neither make nor look for it.

mod encode;
mod make;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use event_listener::{Event, EventListener};
use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jtp_core::ImageId;
use jtp_core::compress::Threshold;
use jtp_driver::store::{BoxFuture, ReadPool};

use crate::catalog::{Proposal, SharedCatalog};
use crate::error::Error;

/// Variants that are made at once, each on a thread.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(2).unwrap();
/// The most images that wait for their variant. Others are queued when they are requested again.
const MAX_WAITING: usize = 4096;
/// New variants are recorded when there are as many, or after this time.
const BATCH: usize = 1000;
const BATCH_TIME: Duration = Duration::from_secs(1);
/// How long none is made after the store has refused one, or could not be reached.
const PAUSE: Duration = Duration::from_secs(60);

/// Makes the variants of a bucket's images.
pub(crate) struct Variants {
    catalog: Arc<SharedCatalog>,
    threshold: Threshold,
    queue: Mutex<Queue>,
    added: Event,
    pool: ReadPool,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<ImageId>,
    /// The images that wait or whose variants are being made, and whether the recorded variant is lost or damaged.
    known: HashMap<ImageId, bool>,
    /// Images whose recorded variant is lost or damaged, and was not made again yet.
    lost: HashSet<ImageId>,
    paused_until: Option<Instant>,
    is_failing: bool,
}

/// What happened next.
enum Happened {
    Added,
    Made(ImageId, Box<Result<Option<Proposal>, Error>>),
    Due,
}

impl Variants {
    pub(crate) fn new(catalog: Arc<SharedCatalog>, threshold: Threshold) -> Variants {
        Variants {
            catalog,
            threshold,
            queue: Mutex::default(),
            added: Event::new(),
            pool: ReadPool::new(AT_ONCE),
        }
    }

    /// An image was sent raw, and no one has tried to make its variant.
    pub(crate) fn request(&self, id: ImageId) {
        self.add(id, false);
    }

    /// The recorded variant of an image is lost or damaged. It is not used until it was made again. // S13
    pub(crate) fn report_lost(&self, id: ImageId) {
        self.add(id, true);
    }

    /// Whether the recorded variant of an image was found to be lost or damaged.
    pub(crate) fn is_lost(&self, id: ImageId) -> bool {
        self.queue().lost.contains(&id)
    }

    fn add(&self, id: ImageId, is_lost: bool) {
        let now = self.catalog.bucket().clock().now();
        let mut queue = self.queue();
        if is_lost && queue.lost.len() < MAX_WAITING {
            queue.lost.insert(id);
        }
        if queue.paused_until.is_some_and(|until| now < until) || queue.waiting.len() >= MAX_WAITING
        {
            return;
        }
        if queue.known.insert(id, is_lost).is_none() {
            queue.waiting.push_back(id);
            drop(queue);
            self.added.notify(usize::MAX);
        }
    }

    /// Whether nothing waits or is being made.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.queue().known.is_empty()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what is requested, until the future is dropped.
    pub(crate) async fn run(&self) {
        let mut making = FuturesUnordered::new();
        let mut made = Vec::new();
        let mut timer = None;
        loop {
            let mut added = self.added.listen();
            while making.len() < AT_ONCE.get() {
                let Some(id) = self.queue().waiting.pop_front() else {
                    break;
                };
                let variant = self.make(id);
                making.push(async move { (id, Box::new(variant.await)) });
            }
            match poll_fn(|cx| poll(cx, &mut making, &mut timer, &mut added)).await {
                Happened::Added => {}
                Happened::Made(id, result) => {
                    if let Some(proposal) = self.take(id, *result) {
                        made.push((id, proposal));
                        let clock = self.catalog.bucket().clock();
                        timer.get_or_insert_with(|| clock.sleep(BATCH_TIME));
                    }
                }
                Happened::Due => {
                    timer = None;
                    self.record(std::mem::take(&mut made)).await;
                }
            }
            if made.len() >= BATCH {
                timer = None;
                self.record(std::mem::take(&mut made)).await;
            }
        }
    }

    fn take(&self, id: ImageId, result: Result<Option<Proposal>, Error>) -> Option<Proposal> {
        match result {
            Ok(Some(proposal)) => {
                self.queue().is_failing = false;
                return Some(proposal);
            }
            Ok(None) => {}
            Err(error) => self.failed(&error),
        }
        self.queue().known.remove(&id);
        None
    }

    /// Appends new variants to the log. Those of a failure are found again when their images are requested.
    async fn record(&self, made: Vec<(ImageId, Proposal)>) {
        let (ids, proposals): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let result = self.catalog.commit(proposals, false).await;
        if let Err(error) = &result {
            self.failed(error);
        }
        let mut queue = self.queue();
        for id in ids {
            queue.known.remove(&id);
            if result.is_ok() {
                queue.lost.remove(&id);
            }
        }
    }

    fn failed(&self, error: &Error) {
        let now = self.catalog.bucket().clock().now();
        let mut queue = self.queue();
        queue.paused_until = Some(now + PAUSE);
        for id in std::mem::take(&mut queue.waiting) {
            queue.known.remove(&id);
        }
        if std::mem::replace(&mut queue.is_failing, true) {
            tracing::debug!(%error, "cannot make a compressed variant");
            return;
        }
        drop(queue);
        let source = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(%error, source, "cannot make compressed variants: images without one are sent raw; it is tried again");
    }
}

fn poll<T>(
    cx: &mut Context<'_>,
    making: &mut FuturesUnordered<T>,
    timer: &mut Option<BoxFuture<()>>,
    added: &mut EventListener,
) -> Poll<Happened>
where
    T: Future<Output = (ImageId, Box<Result<Option<Proposal>, Error>>)>,
{
    if let Poll::Ready(Some((id, result))) = making.poll_next_unpin(cx) {
        return Poll::Ready(Happened::Made(id, result));
    }
    if let Some(Poll::Ready(())) = timer.as_mut().map(|timer| timer.poll_unpin(cx)) {
        return Poll::Ready(Happened::Due);
    }
    added.poll_unpin(cx).map(|()| Happened::Added)
}
