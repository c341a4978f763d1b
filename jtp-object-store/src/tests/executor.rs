//! Runs tasks on one thread, in simulated time and in an order that a seed determines.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use jtp_driver::store::BoxFuture;
use jtp_kit::Rng;

use crate::clock::Clock;

/// Simulated time. A handle.
#[derive(Debug, Clone)]
pub(super) struct SimClock(Arc<(Instant, Mutex<Timers>)>);

#[derive(Debug, Default)]
struct Timers {
    now: Duration,
    count: u64,
    waiting: BTreeMap<(Duration, u64), Waker>,
}

impl SimClock {
    pub(super) fn new() -> SimClock {
        SimClock(Arc::new((Instant::now(), Mutex::default())))
    }

    fn timers(&self) -> std::sync::MutexGuard<'_, Timers> {
        self.0.1.lock().unwrap()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.timers().now
    }

    /// Moves to the next timer, if it is before `end`.
    fn advance(&self, end: Duration) -> bool {
        let mut timers = self.timers();
        let next = timers.waiting.first_key_value();
        let Some(due) = next.map(|((due, _), _)| *due).filter(|due| *due <= end) else {
            timers.now = end;
            return false;
        };
        let waker = timers.waiting.pop_first().map(|(_, waker)| waker);
        timers.now = timers.now.max(due);
        drop(timers);
        waker.into_iter().for_each(Waker::wake);
        true
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        self.0.0 + self.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let due = self.elapsed() + duration;
        Box::pin(Sleep {
            clock: self.clone(),
            due,
            entry: None,
        })
    }
}

struct Sleep {
    clock: SimClock,
    due: Duration,
    entry: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut timers = clock.timers();
        if timers.now >= self.due {
            return Poll::Ready(());
        }
        let count = *self.entry.get_or_insert_with(|| {
            timers.count += 1;
            timers.count
        });
        timers.waiting.insert((self.due, count), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            self.clock.timers().waiting.remove(&(self.due, entry));
        }
    }
}

/// A task's wakeups. Those of a paused process stay until it continues.
type Ready = Arc<Mutex<BTreeSet<usize>>>;

struct TaskWaker {
    task: usize,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap().insert(self.task);
    }
}

struct Task {
    process: usize,
    future: BoxFuture<()>,
}

/// Runs tasks. Each belongs to a process, which may be paused or ended.
pub(super) struct Executor {
    pub(super) clock: SimClock,
    rng: Rng,
    tasks: BTreeMap<usize, Task>,
    count: usize,
    ready: Ready,
    paused: BTreeSet<usize>,
}

impl Executor {
    pub(super) fn new(seed: u64) -> Executor {
        Executor {
            clock: SimClock::new(),
            rng: Rng::new(seed),
            tasks: BTreeMap::new(),
            count: 0,
            ready: Ready::default(),
            paused: BTreeSet::new(),
        }
    }

    pub(super) fn spawn(
        &mut self,
        process: usize,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let future = Box::pin(future);
        self.tasks.insert(self.count, Task { process, future });
        self.ready.lock().unwrap().insert(self.count);
        self.count += 1;
    }

    pub(super) fn kill(&mut self, process: usize) {
        self.tasks.retain(|_, task| task.process != process);
        self.paused.remove(&process);
    }

    pub(super) fn pause(&mut self, process: usize) {
        self.paused.insert(process);
    }

    pub(super) fn resume(&mut self, process: usize) {
        self.paused.remove(&process);
    }

    /// Runs for a time. Calls `check` after each step of a process.
    pub(super) fn run_for(&mut self, duration: Duration, mut check: impl FnMut(usize)) {
        let end = self.clock.elapsed() + duration;
        loop {
            let ready: Vec<usize> = {
                let mut ready = self.ready.lock().unwrap();
                ready.retain(|task| self.tasks.contains_key(task));
                let runs = |task: &usize| {
                    let task = &self.tasks[task];
                    !self.paused.contains(&task.process)
                };
                ready.iter().copied().filter(runs).collect()
            };
            if ready.is_empty() {
                if !self.clock.advance(end) {
                    return;
                }
                continue;
            }
            let chosen = self.rng.below(ready.len() as u64);
            let id = ready[usize::try_from(chosen).unwrap()];
            self.ready.lock().unwrap().remove(&id);
            let waker = Waker::from(Arc::new(TaskWaker {
                task: id,
                ready: Arc::clone(&self.ready),
            }));
            let task = self.tasks.get_mut(&id).unwrap();
            let process = task.process;
            let poll = task.future.as_mut().poll(&mut Context::from_waker(&waker));
            if poll.is_ready() {
                self.tasks.remove(&id);
            }
            check(process);
        }
    }

    /// Runs a future to its end, with all other tasks.
    pub(super) fn block_on<T: Send + 'static>(
        &mut self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let output = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&output);
        self.spawn(usize::MAX, async move {
            let result = future.await;
            *slot.lock().unwrap() = Some(result);
        });
        for _ in 0..10_000 {
            if let Some(result) = output.lock().unwrap().take() {
                return result;
            }
            self.run_for(Duration::from_millis(100), |_| {});
        }
        panic!("the future does not end");
    }
}
