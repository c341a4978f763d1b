//! The disk's side of a transfer: images are decoded, verified and made into files on threads of their own while the
//! next ones come in.
//!
//! What comes is handed to those threads in batches, an image to one of them from its beginning to its end: many small
//! images are a batch, a large one is several. A batch goes when it is full, or as soon as somebody has nothing else to
//! do and nothing more is there to be read. There are so many batches and no more, which bounds the memory: whoever
//! fills them waits until one has been worked off.

mod work;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jtp_core::Image;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::exit::Failure;
use crate::fetch::{Fetch, Told};
use work::{Batch, Step, Work};

/// So many batches for one connection, or several together: enough that a compressed image of some megabytes does not
/// keep the next one from another thread.
const BATCHES: usize = 16;

/// So many for each of many connections: one that is filled, two that wait, one that is worked off.
const LEAST_BATCHES: usize = 4;

/// The most threads: beyond these the connection, or the disk, is what takes time.
const MOST_THREADS: usize = 4;

/// One thread.
struct Maker {
    batches: mpsc::UnboundedSender<Batch>,
    /// How many batches it has not worked off.
    waiting: Arc<AtomicUsize>,
    /// How it ended; nothing, if it panicked.
    ended: oneshot::Receiver<Result<(), Failure>>,
}

/// What one thread is to work off. Its end is told however the thread ends: somebody may wait for it.
struct Queue {
    batches: mpsc::UnboundedReceiver<Batch>,
    moved: Arc<Notify>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.batches.close();
        self.moved.notify_one();
    }
}

/// Where a connection leaves what has come.
pub(crate) struct Disk {
    fetch: Arc<Fetch>,
    makers: Vec<Maker>,
    most_makers: usize,
    /// Why there is not even one of them.
    no_thread: Option<io::Error>,
    /// What is being filled, and for whom: `None` until it is handed over for the first time.
    batch: Batch,
    maker: Option<usize>,
    /// Whether an image is begun that has not ended.
    open: bool,
    /// Batches that were worked off, for their memory.
    spare: mpsc::UnboundedReceiver<Batch>,
    back: Back,
}

/// The way back from the threads.
#[derive(Clone)]
struct Back {
    spare: mpsc::UnboundedSender<Batch>,
    /// A batch was worked off, or a thread has ended.
    moved: Arc<Notify>,
}

/// A thread has ended before its work, or none could be started: [`Disk::finish`] says why.
#[derive(Debug)]
pub(crate) struct Gone;

impl Disk {
    /// A disk for one of so many connections. Threads are started as they are needed.
    pub(crate) fn new(fetch: &Arc<Fetch>, connections: usize) -> Disk {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let connections = connections.max(1);
        let threads = (processors / connections).clamp(1, MOST_THREADS);
        Disk::with(fetch, threads, (BATCHES / connections).max(LEAST_BATCHES))
    }

    /// A disk of at most so many threads, and of so many batches.
    fn with(fetch: &Arc<Fetch>, most_makers: usize, batches: usize) -> Disk {
        let (to_spare, spare) = mpsc::unbounded_channel();
        for _ in 1..batches {
            let _ = to_spare.send(Batch::default());
        }
        Disk {
            fetch: Arc::clone(fetch),
            makers: Vec::new(),
            most_makers,
            no_thread: None,
            batch: Batch::default(),
            maker: None,
            open: false,
            spare,
            back: Back {
                spare: to_spare,
                moved: Arc::default(),
            },
        }
    }

    /// An image begins.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub(crate) async fn begin(&mut self, image: Image) -> Result<(), Gone> {
        // No image that is not small shares a batch with another, or one thread would get them all.
        if self.maker.is_some() || self.batch.is_full(image.length) {
            self.flush().await?;
        }
        self.batch.steps.push(Step::Begin(image));
        self.open = true;
        Ok(())
    }

    /// The next bytes of its packet.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.batch.bytes.extend_from_slice(bytes);
        match self.batch.steps.last_mut() {
            // Long writes are cheaper.
            Some(Step::Bytes(count)) => *count += bytes.len(),
            _ => self.batch.steps.push(Step::Bytes(bytes.len())),
        }
    }

    /// The packet is at its end.
    pub(crate) fn end(&mut self, told: Told) {
        self.batch.steps.push(Step::End(told));
        self.open = false;
    }

    /// The image is thrown away.
    pub(crate) fn give_up(&mut self) {
        self.batch.steps.push(Step::GiveUp);
        self.open = false;
    }

    /// Hands over what there is as soon as somebody has nothing to do but that; with nothing to hand over it waits
    /// for a thread's early end. Dropped before it is ready, it loses nothing.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub(crate) async fn hand_over(&mut self) -> Result<(), Gone> {
        loop {
            self.check()?;
            if !self.batch.is_empty() {
                let maker = self.choose()?;
                if self.makers[maker].is_idle() && self.send(maker) {
                    return Ok(());
                }
            }
            self.back.moved.notified().await;
        }
    }

    /// Hands over a full batch.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub(crate) async fn make_room(&mut self) -> Result<(), Gone> {
        match self.batch.is_full(0) {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Hands over what there is, to whoever has the least to do.
    async fn flush(&mut self) -> Result<(), Gone> {
        loop {
            self.check()?;
            if self.batch.is_empty() {
                return Ok(());
            }
            let maker = self.choose()?;
            if !self.send(maker) {
                self.back.moved.notified().await;
            }
        }
    }

    /// Waits until all that came is in place, or has failed.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub(crate) async fn settle(&mut self) -> Result<(), Gone> {
        self.flush().await?;
        loop {
            self.check()?;
            if self.makers.iter().all(Maker::is_idle) {
                return Ok(());
            }
            self.back.moved.notified().await;
        }
    }

    /// The same, and ends the threads.
    ///
    /// # Errors
    ///
    /// What ended one of them before its time.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        // Why a thread may be gone is told below.
        let _ = self.settle().await;
        let mut result = match self.no_thread {
            Some(error) => Err(Failure::other(format!("cannot start a thread: {error}"))),
            None => Ok(()),
        };
        for maker in self.makers {
            drop(maker.batches);
            let ended = maker
                .ended
                .await
                .unwrap_or_else(|_| Err(Failure::other("a thread that makes files failed")));
            result = both(result, ended);
        }
        result
    }

    fn check(&self) -> Result<(), Gone> {
        match self.makers.iter().any(|maker| maker.batches.is_closed()) {
            true => Err(Gone),
            false => Ok(()),
        }
    }

    /// Who gets the batch: whoever has the rest of its first image, or the least to do.
    ///
    /// # Errors
    ///
    /// [`Gone`]: there is nobody, and no thread to be had.
    fn choose(&mut self) -> Result<usize, Gone> {
        if let Some(maker) = self.maker {
            return Ok(maker);
        }
        let waiting = |maker: &usize| self.makers[*maker].waiting.load(Ordering::Acquire);
        let least = (0..self.makers.len()).min_by_key(waiting);
        let full = self.makers.len() >= self.most_makers;
        if let Some(maker) = least.filter(|maker| full || self.makers[*maker].is_idle()) {
            return Ok(maker);
        }
        match (Maker::start(&self.fetch, &self.back), least) {
            (Ok(maker), _) => {
                self.makers.push(maker);
                Ok(self.makers.len() - 1)
            }
            // Those that are there have to do.
            (Err(_), Some(maker)) => {
                self.most_makers = self.makers.len();
                Ok(maker)
            }
            (Err(error), None) => {
                self.no_thread = Some(error);
                Err(Gone)
            }
        }
    }

    /// Whether there was another batch to go on with.
    fn send(&mut self, maker: usize) -> bool {
        let Ok(next) = self.spare.try_recv() else {
            return false;
        };
        let batch = std::mem::replace(&mut self.batch, next);
        let Maker {
            batches, waiting, ..
        } = &self.makers[maker];
        waiting.fetch_add(1, Ordering::AcqRel);
        // It may have ended just now, which the next look tells.
        let _ = batches.send(batch);
        self.maker = self.open.then_some(maker);
        true
    }
}

impl Maker {
    fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    fn start(fetch: &Arc<Fetch>, back: &Back) -> io::Result<Maker> {
        let (batches, queue) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (fetch, back, worked_off) = (Arc::clone(fetch), back.clone(), Arc::clone(&waiting));
        let queue = Queue {
            batches: queue,
            moved: Arc::clone(&back.moved),
        };
        // Not one of the runtime's threads: where the system gives it no more, it would let this work wait for ever.
        thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || {
                let result = work(&fetch, queue, &back, &worked_off);
                // Who does not wait for the end needs to know nothing.
                let _ = end.send(result);
            })?;
        Ok(Maker {
            batches,
            waiting,
            ended,
        })
    }
}

/// What a thread does, until nobody hands anything over any more, or the folder takes nothing.
fn work(
    fetch: &Fetch,
    mut queue: Queue,
    back: &Back,
    waiting: &AtomicUsize,
) -> Result<(), Failure> {
    let mut work = Work::new(fetch);
    while let Some(mut batch) = queue.batches.blocking_recv() {
        work.off(&mut batch)?;
        waiting.fetch_sub(1, Ordering::AcqRel);
        let _ = back.spare.send(batch);
        back.moved.notify_one();
    }
    Ok(())
}

/// The failure that two sides of the work have led to.
pub(crate) fn both(one: Result<(), Failure>, other: Result<(), Failure>) -> Result<(), Failure> {
    match (one, other) {
        (Err(one), Err(other)) => Err(one.or_worse(other)),
        (one, other) => one.and(other),
    }
}

#[cfg(test)]
mod tests;
