//! A bounded pool of threads for calls that block.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// A thread without work ends after this time.
const IDLE: Duration = Duration::from_secs(10);

/// Runs blocking reads of stores on a bounded number of threads. A handle: clones are the same pool.
///
/// It is JTP's own, so a backend that stalls takes no thread from the rest of the program. Threads start when there is
/// work for them and end after 10 s without work. Work whose future was dropped before it began is skipped.
#[derive(Clone)]
pub struct ReadPool(Arc<Shared>);

struct Shared {
    max_threads: usize,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<dyn Task>>,
    threads: usize,
    idle: usize,
}

/// The pool has no thread, and the system started none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot start a thread to read images")]
#[non_exhaustive]
pub struct NoThread;

impl ReadPool {
    /// The default number of threads.
    pub const DEFAULT_THREADS: NonZeroUsize = NonZeroUsize::new(32).unwrap();

    /// A pool of at most `max_threads` threads.
    #[must_use]
    pub fn new(max_threads: NonZeroUsize) -> ReadPool {
        ReadPool(Arc::new(Shared {
            max_threads: max_threads.get(),
            state: Mutex::default(),
            work: Condvar::new(),
        }))
    }

    /// Runs `work` on a thread of the pool, in the order of the calls. It is queued at once, whether or not the future is
    /// polled. Dropping the future cancels work that has not begun. A panic of `work` continues where the future is
    /// polled.
    ///
    /// The future's error is [`NoThread`] if the pool has no thread and the system starts none.
    ///
    /// ```
    /// use jtp_driver::store::ReadPool;
    ///
    /// let pool = ReadPool::default();
    /// let read = pool.run(|| std::fs::read("Cargo.toml"));
    /// # smol::block_on(async {
    /// let bytes = read.await??;
    /// # assert!(!bytes.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> PoolJob<T> {
        let job = Arc::new(Job(Mutex::new(JobState::Waiting(Box::new(work), None))));
        self.0.push(Arc::clone(&job) as Arc<dyn Task>);
        PoolJob(job)
    }

    /// Runs `work` on a thread of the pool, in the order of the calls, without a result. It is dropped if the pool has no
    /// thread and the system starts none. A panic of `work` is ignored.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.0
            .push(Arc::new(Detached(Mutex::new(Some(Box::new(work))))));
    }
}

/// Work that nobody waits for.
struct Detached(Mutex<Option<Work<()>>>);

impl Detached {
    fn take(&self) -> Option<Work<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Task for Detached {
    fn run(&self) {
        if let Some(work) = self.take() {
            drop(catch_unwind(AssertUnwindSafe(work)));
        }
    }

    fn fail(&self) {
        drop(self.take());
    }
}

impl Default for ReadPool {
    fn default() -> Self {
        ReadPool::new(ReadPool::DEFAULT_THREADS)
    }
}

impl fmt::Debug for ReadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadPool")
            .field("max_threads", &self.0.max_threads)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a task, and starts a thread if none is idle.
    fn push(self: &Arc<Self>, task: Arc<dyn Task>) {
        let mut state = self.lock();
        state.queue.push_back(task);
        if state.idle >= state.queue.len() {
            drop(state);
            self.work.notify_one();
            return;
        }
        if state.threads >= self.max_threads {
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(self);
        let thread = thread::Builder::new().name("jtp-read".to_owned());
        if thread.spawn(move || shared.run()).is_err() {
            self.thread_failed();
        }
    }

    /// A thread was not started. Without any other, nobody would do what is queued, by now also by other callers.
    fn thread_failed(&self) {
        let mut state = self.lock();
        state.threads -= 1;
        if state.threads > 0 {
            return;
        }
        let tasks = std::mem::take(&mut state.queue);
        drop(state);
        for task in tasks {
            task.fail();
        }
    }

    /// A thread of the pool.
    fn run(&self) {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.queue.pop_front() {
                drop(state);
                task.run();
                drop(task);
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (woken, timeout) = self
                .work
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

trait Task: Send + Sync {
    /// Does the work, unless its future was dropped.
    fn run(&self);

    /// No thread will do the work.
    fn fail(&self);
}

type Work<T> = Box<dyn FnOnce() -> T + Send>;

enum JobState<T> {
    Waiting(Work<T>, Option<Waker>),
    Running(Option<Waker>),
    Done(Result<T, Box<dyn Any + Send>>),
    Failed,
    /// The output was taken, or the future was dropped.
    Finished,
}

struct Job<T>(Mutex<JobState<T>>);

impl<T> Job<T> {
    fn lock(&self) -> MutexGuard<'_, JobState<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send> Task for Job<T> {
    fn run(&self) {
        let mut state = self.lock();
        let JobState::Waiting(work, waker) = std::mem::replace(&mut *state, JobState::Finished)
        else {
            return;
        };
        *state = JobState::Running(waker);
        drop(state);
        let output = catch_unwind(AssertUnwindSafe(work));
        let mut state = self.lock();
        if let JobState::Running(waker) = &mut *state {
            let waker = waker.take();
            *state = JobState::Done(output);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn fail(&self) {
        let mut state = self.lock();
        if !matches!(*state, JobState::Waiting(..)) {
            return;
        }
        let failed = std::mem::replace(&mut *state, JobState::Failed);
        drop(state);
        if let JobState::Waiting(work, waker) = failed {
            drop(work); // Outside the lock: the work may own anything.
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

/// Work on a [`ReadPool`]: a future of its output. Dropping it cancels work that has not begun.
#[must_use]
pub struct PoolJob<T>(Arc<Job<T>>);

impl<T> Future for PoolJob<T> {
    type Output = Result<T, NoThread>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock();
        match &mut *state {
            JobState::Waiting(_, waker) | JobState::Running(waker) => {
                if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            JobState::Done(_) => match std::mem::replace(&mut *state, JobState::Finished) {
                JobState::Done(Ok(output)) => Poll::Ready(Ok(output)),
                JobState::Done(Err(panic)) => {
                    drop(state);
                    resume_unwind(panic)
                }
                _ => Poll::Ready(Err(NoThread)),
            },
            JobState::Failed | JobState::Finished => Poll::Ready(Err(NoThread)),
        }
    }
}

impl<T> fmt::Debug for PoolJob<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolJob").finish_non_exhaustive()
    }
}

impl<T> Drop for PoolJob<T> {
    fn drop(&mut self) {
        let abandoned = std::mem::replace(&mut *self.0.lock(), JobState::Finished);
        drop(abandoned); // Outside the lock: the work may own anything.
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::counting_waker::CountingWaker;

    fn pool(threads: usize) -> ReadPool {
        ReadPool::new(NonZeroUsize::new(threads).unwrap())
    }

    #[test]
    fn at_most_max_threads_run_and_every_job_completes() {
        let pool = pool(3);
        let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs: Vec<_> = (0..100)
            .map(|n| {
                let (running, peak) = (Arc::clone(&running), Arc::clone(&peak));
                pool.run(move || {
                    peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    n
                })
            })
            .collect();
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(smol::block_on(job), Ok(n));
        }
        assert!((1..=3).contains(&peak.load(Ordering::SeqCst)));
    }

    #[test]
    fn detached_work_runs_after_what_was_queued_before_it_and_may_panic() {
        let pool = pool(1);
        let (sender, receiver) = mpsc::channel();
        let other = sender.clone();
        pool.spawn(move || sender.send(1).unwrap());
        pool.spawn(|| panic!("a store's fault"));
        pool.spawn(move || other.send(2).unwrap());
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn work_whose_future_is_dropped_before_it_begins_is_skipped() {
        let pool = pool(1);
        let (release, blocked) = mpsc::channel::<()>();
        let first = pool.run(move || blocked.recv().is_ok());
        let ran = Arc::new(AtomicUsize::new(0));
        let count = |ran: &Arc<AtomicUsize>| {
            let ran = Arc::clone(ran);
            move || ran.fetch_add(1, Ordering::SeqCst)
        };
        drop(pool.run(count(&ran)));
        let last = pool.run(count(&ran));
        release.send(()).unwrap();
        assert_eq!(smol::block_on(first), Ok(true));
        assert_eq!(smol::block_on(last), Ok(0), "the dropped one did not run");
    }

    #[test]
    fn all_queued_work_fails_if_the_only_thread_cannot_be_started() {
        let pool = pool(1);
        // One caller is about to start the thread; two others rely on it.
        pool.0.lock().threads = 1;
        let [first, mut second] = [1, 2].map(|n| pool.run(move || n));
        let task = Arc::new(CountingWaker::default());
        let waker = Waker::from(Arc::clone(&task));
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut second).poll(&mut cx).is_pending());
        pool.0.thread_failed();
        assert_eq!(task.count(), 1);
        assert_eq!(
            Pin::new(&mut second).poll(&mut cx),
            Poll::Ready(Err(NoThread))
        );
        assert_eq!(smol::block_on(first), Err(NoThread));
        assert_eq!(smol::block_on(pool.run(|| 3)), Ok(3), "the next try works");
    }

    #[test]
    fn a_panic_continues_in_the_task_and_the_pool_survives() {
        let pool = pool(1);
        let job = pool.run(|| panic!("a store's fault"));
        let caught = catch_unwind(AssertUnwindSafe(|| smol::block_on(job)));
        assert!(caught.is_err());
        assert_eq!(smol::block_on(pool.run(|| 7)), Ok(7));
    }
}
