//! Fetches images from the upstream, each once, over several connections.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jtp_tokio::jtp_core::{Image, ImageId};
use jtp_tokio::{Client, ImageError, Undecoded};
use tokio::sync::{Notify, watch};

use super::cache::{CachedImage, DiskCache};

/// The most images of one request. Several small images in one request cost one round trip.
pub(crate) const MAX_BATCH: usize = 32;

/// The most bytes of a request with several images. Other connections fetch the next ones meanwhile.
const MAX_BATCH_BYTES: u64 = 512 * 1024;

/// Why an image cannot be fetched. Cheap to clone: all who wait for the image get it.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The upstream no longer has it.
    Gone,
    /// The upstream cannot be reached, the image arrived broken twice, or the disk failed.
    Unavailable(Arc<dyn Error + Send + Sync>),
}

type Outcome = Result<CachedImage, Failure>;
type Sender = watch::Sender<Option<Outcome>>;

pub(crate) struct Upstream {
    cache: Arc<DiskCache>,
    max_length: u32,
    queue: Mutex<Queue>,
    queued: Notify,
}

#[derive(Default)]
struct Queue {
    /// Images that wait for a connection.
    waiting: VecDeque<(Image, Sender)>,
    /// Those, and images that are being fetched.
    fetching: HashMap<ImageId, watch::Receiver<Option<Outcome>>>,
}

impl Upstream {
    pub(crate) fn new(cache: Arc<DiskCache>, max_length: u32) -> Upstream {
        Upstream {
            cache,
            max_length,
            queue: Mutex::default(),
            queued: Notify::new(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches an image, or waits for the fetch that is under way; `None` if the cache has it.
    ///
    /// The fetch continues if this future is dropped: the next client finds the image in the cache.
    pub(crate) async fn fetch(&self, image: Image) -> Option<Outcome> {
        let mut fetched = self.join(image)?;
        let outcome = fetched.wait_for(Option::is_some).await;
        let outcome = outcome.map(|outcome| outcome.clone());
        outcome.unwrap_or_else(|_| Some(Err(unavailable("the upstream's connection has ended"))))
    }

    fn join(&self, image: Image) -> Option<watch::Receiver<Option<Outcome>>> {
        let mut queue = self.queue();
        if let Some(fetching) = queue.fetching.get(&image.id) {
            return Some(fetching.clone());
        }
        if self.cache.contains(image.id) {
            return None; // It was fetched after the caller had looked.
        }
        let (sender, receiver) = watch::channel(None);
        queue.fetching.insert(image.id, receiver.clone());
        queue.waiting.push_back((image, sender));
        self.queued.notify_one();
        Some(receiver)
    }

    /// One connection: fetches what is queued, until the task is dropped.
    pub(crate) async fn run(self: Arc<Self>, mut client: Client) {
        loop {
            let queued = self.queued.notified();
            let mut batch = self.take_batch();
            if batch.is_empty() {
                queued.await;
            } else {
                self.fetch_batch(&mut client, &mut batch).await;
            }
        }
    }

    fn take_batch(&self) -> HashMap<ImageId, Sender> {
        let mut queue = self.queue();
        let mut batch = HashMap::new();
        let mut bytes = 0;
        while let Some((image, _)) = queue.waiting.front() {
            bytes += u64::from(image.length);
            if batch.len() == MAX_BATCH || (!batch.is_empty() && bytes > MAX_BATCH_BYTES) {
                self.queued.notify_one(); // The next connection takes what is left.
                break;
            }
            if let Some((image, sender)) = queue.waiting.pop_front() {
                batch.insert(image.id, sender);
            }
        }
        batch
    }

    async fn fetch_batch(&self, client: &mut Client, batch: &mut HashMap<ImageId, Sender>) {
        let failure = match self.request(client, batch).await {
            // A broken image is asked for once more. // R2
            Ok(()) if !batch.is_empty() => self.request(client, batch).await.err(),
            Ok(()) => None,
            Err(failure) => Some(failure),
        };
        let failure = failure.unwrap_or_else(|| unavailable("the image arrived broken twice"));
        for (id, sender) in batch.drain() {
            self.finish(id, &sender, Err(failure.clone()));
        }
    }

    /// Makes one request for the images of `batch`, and removes those whose outcome is known.
    async fn request(
        &self,
        client: &mut Client,
        batch: &mut HashMap<ImageId, Sender>,
    ) -> Result<(), Failure> {
        let ids: Vec<ImageId> = batch.keys().copied().collect();
        let mut images = client.get(ids);
        while let Some(incoming) = images.next().await.map_err(unavailable)? {
            let id = incoming.image().id;
            let outcome = match incoming.undecoded() {
                Ok(incoming) => self.receive(incoming).await,
                Err(misuse) => return Err(unavailable(misuse)),
            };
            let outcome = match outcome {
                Ok(cached) => Ok(cached),
                // The connection is made again, and the image arrives again. // R6
                Err(Receive::Lost(ImageError::Interrupted(_)) | Receive::Broken) => continue,
                Err(Receive::Lost(error)) => return Err(unavailable(error)),
                Err(Receive::Disk(error)) => Err(unavailable(error)),
            };
            if let Some(sender) = batch.remove(&id) {
                self.finish(id, &sender, outcome);
            }
        }
        for id in images.absent() {
            if let Some(sender) = batch.remove(id) {
                self.finish(*id, &sender, Err(Failure::Gone));
            }
        }
        Ok(())
    }

    /// Receives an image into the cache, as it travels.
    async fn receive(&self, mut incoming: Undecoded<'_, '_>) -> Result<CachedImage, Receive> {
        let image = incoming.image();
        if image.length > self.max_length {
            return Err(Receive::Disk(io::ErrorKind::FileTooLarge.into()));
        }
        let mut pending = self.cache.begin(image).await.map_err(Receive::Disk)?;
        while let Some(chunk) = incoming.chunk().await.map_err(Receive::Lost)? {
            pending.write(chunk).await.map_err(Receive::Disk)?;
        }
        let verified = pending.verify().map_err(|_| Receive::Broken)?;
        pending.commit(verified).await.map_err(Receive::Disk)
    }

    fn finish(&self, id: ImageId, sender: &Sender, outcome: Outcome) {
        // The cache has the image by now, so that no other fetch of it can begin.
        self.queue().fetching.remove(&id);
        sender.send_replace(Some(outcome));
    }
}

enum Receive {
    Lost(ImageError),
    Broken,
    Disk(io::Error),
}

fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    Failure::Unavailable(error.into().into())
}
