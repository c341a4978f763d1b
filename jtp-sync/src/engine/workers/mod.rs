//! Worker threads that decode, verify and write images while a connection receives the next ones.
//!
//! The connection collects received data in batches. A batch holds many small images, or a part of a large one. All
//! data of one image goes to the same thread. A batch is sent to a thread when it is full, or earlier if a thread is
//! idle and the connection has nothing to read. The number of batches is fixed, which bounds the memory: the connection
//! waits until a thread returns a batch.

mod batch;
mod decoder;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use event_listener::{Event, listener};
use jtp_core::Image;

use super::error::Error;
use super::flight::Flight;
use super::session::{Session, lock};
pub(super) use batch::MIN_MOVED;
use batch::{Batch, Step};
use decoder::Decoder;

/// Number of batches, divided among the connections: enough that a thread busy with a compressed image of some
/// megabytes does not keep the next image from another thread.
const BATCHES: usize = 16;

/// Minimum number of batches for each connection: one being filled, two queued, one being processed.
const MIN_BATCHES: usize = 4;

/// Maximum number of threads for each connection. With more, the network or the disk is the bottleneck.
const MAX_THREADS: usize = 4;

enum Job {
    Batch(Batch),
    /// Carry out the planner's steps.
    Moves,
}

struct Worker {
    /// `None` once the thread is asked to end.
    jobs: Option<mpsc::Sender<Job>>,
    /// Number of jobs queued or being processed.
    pending: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// What the threads share with their connection.
#[derive(Default)]
struct Shared {
    /// Processed batches, for reuse.
    free: Mutex<Vec<Batch>>,
    /// A job is done.
    changed: Event,
}

/// One connection's worker threads. They are started on demand. After a failure ([`Session::fail`]) they discard what
/// they are sent.
pub(super) struct Workers {
    session: Arc<Session>,
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    max_threads: usize,
    /// The batch being filled.
    batch: Batch,
    /// The thread that the batch must go to because it continues an image there.
    current: Option<usize>,
    /// Whether an image has begun and not ended.
    image_open: bool,
}

impl Workers {
    /// The workers of one of `connections` connections.
    pub(super) fn new(session: &Arc<Session>, connections: usize) -> Workers {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let connections = connections.max(1);
        let batches = (BATCHES / connections).max(MIN_BATCHES);
        let shared = Shared::default();
        lock(&shared.free).extend((1..batches).map(|_| Batch::default()));
        Workers {
            session: Arc::clone(session),
            shared: Arc::new(shared),
            workers: Vec::new(),
            max_threads: (processors / connections).clamp(1, MAX_THREADS),
            batch: Batch::default(),
            current: None,
            image_open: false,
        }
    }

    /// Begins an image.
    pub(super) async fn begin(&mut self, image: Image) {
        // Only small images share a batch. Otherwise one thread would get all large ones.
        if self.current.is_some() || self.batch.is_full(image.length) {
            self.flush().await;
        }
        self.batch.steps.push(Step::Begin(image));
        self.image_open = true;
    }

    /// Sends the bytes of the current batch, if it has any. Cancel safe.
    pub(super) async fn flush_bytes(&mut self) {
        if !self.batch.has_no_bytes() {
            self.flush().await;
        }
    }

    /// Takes over bytes of the image's packet, after [`flush_bytes`](Self::flush_bytes). `moved` exchanges the memory of
    /// the batch for theirs, and returns where in it they are.
    pub(super) fn take(&mut self, moved: impl FnOnce(&mut Vec<u8>) -> Range<usize>) {
        self.batch.take(moved);
    }

    /// Appends bytes of the image's packet.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.batch.append(bytes);
    }

    /// Ends the image: its packet is complete.
    pub(super) fn end(&mut self, flight: Flight) {
        self.batch.steps.push(Step::End(flight));
        self.image_open = false;
    }

    /// Discards the image that has begun and not ended, if there is one.
    pub(super) fn discard(&mut self) {
        if std::mem::take(&mut self.image_open) {
            self.batch.steps.push(Step::Discard);
        }
    }

    /// Lets a thread carry out the planner's steps.
    pub(super) fn moves(&mut self) {
        if let Some(worker) = self.choose_worker() {
            self.send(worker, Job::Moves);
        }
    }

    /// Sends the current batch as soon as a thread is idle. Without data in the batch, never returns. Cancel safe.
    pub(super) async fn send_when_idle(&mut self) {
        loop {
            let shared = Arc::clone(&self.shared);
            listener!(shared.changed => changed);
            if !self.batch.is_empty() {
                let worker = self.choose_worker();
                let idle = worker.filter(|worker| self.workers[*worker].is_idle());
                if idle.is_some_and(|worker| self.try_send(worker)) {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Sends the current batch if it is full.
    pub(super) async fn flush_if_full(&mut self) {
        if self.batch.is_full(0) {
            self.flush().await;
        }
    }

    /// Sends the current batch to the least busy thread. Cancel safe.
    async fn flush(&mut self) {
        while !self.batch.is_empty() {
            let shared = Arc::clone(&self.shared);
            listener!(shared.changed => changed);
            let sent = match self.choose_worker() {
                Some(worker) => self.try_send(worker),
                None => {
                    self.batch = Batch::default();
                    true
                }
            };
            if !sent {
                changed.await;
            }
        }
    }

    /// Waits until all received images are processed. Cancel safe.
    pub(super) async fn drain(&mut self) {
        self.flush().await;
        loop {
            let shared = Arc::clone(&self.shared);
            listener!(shared.changed => changed);
            if self.workers.iter().all(Worker::is_idle) {
                return;
            }
            changed.await;
        }
    }

    /// Chooses the thread for the current batch: the one that has the beginning of its first image, else the least
    /// busy. Starts a thread if all are busy and the maximum is not reached. `None` if there is no thread and none can
    /// be started, which fails the session.
    fn choose_worker(&mut self) -> Option<usize> {
        if let Some(worker) = self.current {
            return Some(worker);
        }
        let pending = |worker: &usize| self.workers[*worker].pending.load(Ordering::Acquire);
        let least_busy = (0..self.workers.len()).min_by_key(pending);
        let at_limit = self.workers.len() >= self.max_threads;
        if let Some(worker) =
            least_busy.filter(|worker| at_limit || self.workers[*worker].is_idle())
        {
            return Some(worker);
        }
        match (Worker::start(&self.session, &self.shared), least_busy) {
            (Ok(worker), _) => {
                self.workers.push(worker);
                Some(self.workers.len() - 1)
            }
            // Continues with the existing threads.
            (Err(_), Some(worker)) => {
                self.max_threads = self.workers.len();
                Some(worker)
            }
            (Err(error), None) => {
                self.session.fail(Error::Thread(error));
                None
            }
        }
    }

    /// Sends the current batch if there is a free batch to replace it. Returns whether it was sent.
    fn try_send(&mut self, worker: usize) -> bool {
        let Some(next) = lock(&self.shared.free).pop() else {
            return false;
        };
        let batch = std::mem::replace(&mut self.batch, next);
        self.send(worker, Job::Batch(batch));
        self.current = self.image_open.then_some(worker);
        true
    }

    fn send(&self, worker: usize, job: Job) {
        let Worker { jobs, pending, .. } = &self.workers[worker];
        pending.fetch_add(1, Ordering::AcqRel);
        // Fails only if the thread has panicked.
        if jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
            self.session.fail(Error::Panicked);
            pending.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Workers {
    /// Ends the threads, and waits for those that are idle: the others end on their own once their work is done. An image
    /// that is not complete is removed by its thread.
    pub(super) fn stop(&mut self) {
        for worker in &mut self.workers {
            worker.jobs = None;
        }
        for mut worker in self.workers.drain(..) {
            if let Some(thread) = worker.thread.take().filter(|_| worker.is_idle()) {
                // A panic was reported by the thread itself.
                let _ = thread.join();
            }
        }
    }
}

impl Worker {
    fn is_idle(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    fn start(session: &Arc<Session>, shared: &Arc<Shared>) -> std::io::Result<Worker> {
        let (jobs, queue) = mpsc::channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let (session, shared) = (Arc::clone(session), Arc::clone(shared));
        let counter = Arc::clone(&pending);
        // A thread of its own, not one of the runtime's pool: if the system refuses another one, a pool would queue
        // this work forever.
        let thread = thread::Builder::new()
            .name("jtp-sync".to_owned())
            .spawn(move || work(&session, &queue, &shared, &counter))?;
        Ok(Worker {
            jobs: Some(jobs),
            pending,
            thread: Some(thread),
        })
    }
}

/// Notes that a thread ends, so that nobody waits for it after a panic.
struct AtEnd<'a> {
    session: &'a Session,
    shared: &'a Shared,
    pending: &'a AtomicUsize,
}

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.session.fail(Error::Panicked);
            self.pending.store(0, Ordering::Release);
            self.shared.changed.notify(usize::MAX);
        }
    }
}

/// Does jobs until there will be no more.
fn work(session: &Session, jobs: &mpsc::Receiver<Job>, shared: &Shared, pending: &AtomicUsize) {
    let _at_end = AtEnd {
        session,
        shared,
        pending,
    };
    let mut decoder = Decoder::new(session);
    while let Ok(job) = jobs.recv() {
        let batch = match job {
            Job::Batch(mut batch) => {
                if !session.has_failed() {
                    if let Err(error) = decoder.process(&mut batch) {
                        session.fail(error);
                    }
                }
                batch.clear();
                Some(batch)
            }
            Job::Moves => {
                if let Err(error) = session.run_moves() {
                    session.fail(error);
                }
                None
            }
        };
        lock(&shared.free).extend(batch);
        pending.fetch_sub(1, Ordering::AcqRel);
        shared.changed.notify(usize::MAX);
    }
}
