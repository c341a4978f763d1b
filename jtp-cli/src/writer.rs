//! Decodes, verifies and writes images on dedicated threads, while the connection receives the next ones.
//!
//! The connection collects received data in batches. A batch holds many small images, or a part of a large one. All
//! data of one image goes to the same thread. A batch is sent to a thread when it is full, or earlier if a thread is
//! idle and the connection has nothing to read. The number of batches is fixed, which bounds the memory: the connection
//! waits until a thread returns a batch.

mod batch;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jtp_core::Image;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::exit::Failure;
use crate::fetch::{FetchState, ImageProgress};
use batch::{Batch, BatchProcessor, Step};

/// Number of batches, divided among the connections: enough that a thread busy with a compressed image of some
/// megabytes does not keep the next image from another thread.
const BATCHES: usize = 16;

/// Minimum number of batches per connection: one being filled, two queued, one being processed.
const MIN_BATCHES: usize = 4;

/// Maximum number of threads per connection. With more, the network or the disk is the bottleneck.
const MAX_THREADS: usize = 4;

struct WriterThread {
    batches: mpsc::UnboundedSender<Batch>,
    /// Number of batches queued or being processed.
    pending: Arc<AtomicUsize>,
    /// The thread's result. Closed without one if the thread panicked.
    result: oneshot::Receiver<Result<(), Failure>>,
}

/// A thread's input queue. Dropping it notifies the connection, so that it also notices a panic.
struct BatchQueue {
    batches: mpsc::UnboundedReceiver<Batch>,
    changed: Arc<Notify>,
}

impl Drop for BatchQueue {
    fn drop(&mut self) {
        self.batches.close();
        self.changed.notify_one();
    }
}

/// One connection's pool of writer threads.
pub(crate) struct ImageWriter {
    fetch: Arc<FetchState>,
    threads: Vec<WriterThread>,
    max_threads: usize,
    /// Why not even one thread could be started.
    spawn_error: Option<io::Error>,
    /// The batch being filled.
    batch: Batch,
    /// The thread that the batch must go to because it continues an image there.
    current: Option<usize>,
    /// Whether an image has begun and not ended.
    image_open: bool,
    /// Processed batches, for reuse.
    free_batches: mpsc::UnboundedReceiver<Batch>,
    feedback: Feedback,
}

/// The channel from the threads back to the connection.
#[derive(Clone)]
struct Feedback {
    free_batches: mpsc::UnboundedSender<Batch>,
    /// A batch was processed, or a thread ended.
    changed: Arc<Notify>,
}

/// A thread ended early, or none could be started. [`ImageWriter::finish`] returns the cause.
#[derive(Debug)]
pub(crate) struct WriterFailed;

impl ImageWriter {
    /// Creates the writer of one of `connections` connections. Threads are started on demand.
    pub(crate) fn new(fetch: &Arc<FetchState>, connections: usize) -> ImageWriter {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let connections = connections.max(1);
        let threads = (processors / connections).clamp(1, MAX_THREADS);
        ImageWriter::with_limits(fetch, threads, (BATCHES / connections).max(MIN_BATCHES))
    }

    fn with_limits(fetch: &Arc<FetchState>, max_threads: usize, batches: usize) -> ImageWriter {
        let (free, free_batches) = mpsc::unbounded_channel();
        for _ in 1..batches {
            let _ = free.send(Batch::default());
        }
        ImageWriter {
            fetch: Arc::clone(fetch),
            threads: Vec::new(),
            max_threads,
            spawn_error: None,
            batch: Batch::default(),
            current: None,
            image_open: false,
            free_batches,
            feedback: Feedback {
                free_batches: free,
                changed: Arc::default(),
            },
        }
    }

    /// Begins an image.
    ///
    /// # Errors
    ///
    /// [`WriterFailed`].
    pub(crate) async fn begin(&mut self, image: Image) -> Result<(), WriterFailed> {
        // Only small images share a batch. Otherwise one thread would get all large ones.
        if self.current.is_some() || self.batch.is_full(image.length) {
            self.flush().await?;
        }
        self.batch.steps.push(Step::Begin(image));
        self.image_open = true;
        Ok(())
    }

    /// Appends bytes of the image's packet.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.batch.bytes.extend_from_slice(bytes);
        match self.batch.steps.last_mut() {
            // Merged, because few long writes are faster than many short ones.
            Some(Step::Bytes(count)) => *count += bytes.len(),
            _ => self.batch.steps.push(Step::Bytes(bytes.len())),
        }
    }

    /// Ends the image: its packet is complete.
    pub(crate) fn end(&mut self, progress: ImageProgress) {
        self.batch.steps.push(Step::End(progress));
        self.image_open = false;
    }

    /// Discards the image.
    pub(crate) fn discard(&mut self) {
        self.batch.steps.push(Step::Discard);
        self.image_open = false;
    }

    /// Sends the current batch as soon as a thread is idle. Without data in the batch, waits until a thread ends early.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// [`WriterFailed`].
    pub(crate) async fn send_when_idle(&mut self) -> Result<(), WriterFailed> {
        loop {
            self.check_threads()?;
            if !self.batch.is_empty() {
                let thread = self.choose_thread()?;
                if self.threads[thread].is_idle() && self.try_send(thread) {
                    return Ok(());
                }
            }
            self.feedback.changed.notified().await;
        }
    }

    /// Sends the current batch if it is full.
    ///
    /// # Errors
    ///
    /// [`WriterFailed`].
    pub(crate) async fn flush_if_full(&mut self) -> Result<(), WriterFailed> {
        match self.batch.is_full(0) {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Sends the current batch to the least busy thread.
    async fn flush(&mut self) -> Result<(), WriterFailed> {
        loop {
            self.check_threads()?;
            if self.batch.is_empty() {
                return Ok(());
            }
            let thread = self.choose_thread()?;
            if !self.try_send(thread) {
                self.feedback.changed.notified().await;
            }
        }
    }

    /// Waits until all received images are stored or have failed.
    ///
    /// # Errors
    ///
    /// [`WriterFailed`].
    pub(crate) async fn drain(&mut self) -> Result<(), WriterFailed> {
        self.flush().await?;
        loop {
            self.check_threads()?;
            if self.threads.iter().all(WriterThread::is_idle) {
                return Ok(());
            }
            self.feedback.changed.notified().await;
        }
    }

    /// Waits until all received images are stored or have failed, and ends the threads.
    ///
    /// # Errors
    ///
    /// The failure that ended a thread early, or that prevented its start.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        // The cause of a failure is collected below.
        let _ = self.drain().await;
        let mut result = match self.spawn_error {
            Some(error) => Err(Failure::other(format!("cannot start a thread: {error}"))),
            None => Ok(()),
        };
        for thread in self.threads {
            drop(thread.batches);
            let ended = thread
                .result
                .await
                .unwrap_or_else(|_| Err(Failure::other("a writer thread panicked")));
            result = worse_of(result, ended);
        }
        result
    }

    fn check_threads(&self) -> Result<(), WriterFailed> {
        let has_ended = |thread: &WriterThread| thread.batches.is_closed();
        match self.threads.iter().any(has_ended) {
            true => Err(WriterFailed),
            false => Ok(()),
        }
    }

    /// Chooses the thread for the current batch: the one that has the beginning of its first image, else the least
    /// busy. Starts a thread if all are busy and the maximum is not reached.
    ///
    /// # Errors
    ///
    /// [`WriterFailed`]: there is no thread and none can be started.
    fn choose_thread(&mut self) -> Result<usize, WriterFailed> {
        if let Some(thread) = self.current {
            return Ok(thread);
        }
        let pending = |thread: &usize| self.threads[*thread].pending.load(Ordering::Acquire);
        let least_busy = (0..self.threads.len()).min_by_key(pending);
        let at_limit = self.threads.len() >= self.max_threads;
        if let Some(thread) =
            least_busy.filter(|thread| at_limit || self.threads[*thread].is_idle())
        {
            return Ok(thread);
        }
        match (WriterThread::start(&self.fetch, &self.feedback), least_busy) {
            (Ok(thread), _) => {
                self.threads.push(thread);
                Ok(self.threads.len() - 1)
            }
            // Continues with the existing threads.
            (Err(_), Some(thread)) => {
                self.max_threads = self.threads.len();
                Ok(thread)
            }
            (Err(error), None) => {
                self.spawn_error = Some(error);
                Err(WriterFailed)
            }
        }
    }

    /// Sends the current batch if there is a free batch to replace it. Returns whether it was sent.
    fn try_send(&mut self, thread: usize) -> bool {
        let Ok(next) = self.free_batches.try_recv() else {
            return false;
        };
        let batch = std::mem::replace(&mut self.batch, next);
        let WriterThread {
            batches, pending, ..
        } = &self.threads[thread];
        pending.fetch_add(1, Ordering::AcqRel);
        // Fails if the thread has just ended, which the next `check_threads` reports.
        let _ = batches.send(batch);
        self.current = self.image_open.then_some(thread);
        true
    }
}

impl WriterThread {
    fn is_idle(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    fn start(fetch: &Arc<FetchState>, feedback: &Feedback) -> io::Result<WriterThread> {
        let (batches, queue) = mpsc::unbounded_channel();
        let (sender, result) = oneshot::channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let queue = BatchQueue {
            batches: queue,
            changed: Arc::clone(&feedback.changed),
        };
        let (fetch, feedback) = (Arc::clone(fetch), feedback.clone());
        let thread_pending = Arc::clone(&pending);
        // Not `spawn_blocking`: if the system refuses another thread, tokio would queue this work forever.
        thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                let result = process_batches(&fetch, queue, &feedback, &thread_pending);
                // Fails if the connection no longer waits for the result.
                let _ = sender.send(result);
            })?;
        Ok(WriterThread {
            batches,
            pending,
            result,
        })
    }
}

/// Processes batches until the queue closes, or until the output folder cannot be written.
fn process_batches(
    fetch: &FetchState,
    mut queue: BatchQueue,
    feedback: &Feedback,
    pending: &AtomicUsize,
) -> Result<(), Failure> {
    let mut processor = BatchProcessor::new(fetch);
    while let Some(mut batch) = queue.batches.blocking_recv() {
        processor.process(&mut batch)?;
        pending.fetch_sub(1, Ordering::AcqRel);
        let _ = feedback.free_batches.send(batch);
        feedback.changed.notify_one();
    }
    Ok(())
}

/// Combines two results. If both failed, returns the failure whose exit code takes precedence.
pub(crate) fn worse_of(
    one: Result<(), Failure>,
    other: Result<(), Failure>,
) -> Result<(), Failure> {
    match (one, other) {
        (Err(one), Err(other)) => Err(one.or_worse(other)),
        (one, other) => one.and(other),
    }
}

#[cfg(test)]
mod tests;
