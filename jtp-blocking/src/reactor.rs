//! Runs futures on a thread that waits in poll(2).
//!
//! A socket or timer that returns `Pending` registers in the thread that polls it. When the future of [`block_on`] can
//! do nothing more, the thread makes one poll(2) for all registered sockets, the earliest deadline and its own waker.
//! A registration ends when it has fired, when its socket or timer is dropped, and when `block_on` returns.

use std::cell::RefCell;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use jtp_driver::LogThrottle;
pub(crate) use rustix::event::PollFlags;
use rustix::event::{PollFd, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

use crate::parker::Parker;
use crate::wake_fd::WakeFd;

/// The longest time in one poll(2).
const LONGEST: Duration = Duration::from_secs(86_400);

/// The longest wait of a thread that cannot be woken because its descriptor could not be opened, and the pause after a
/// poll(2) that failed because the system is out of memory.
const FALLBACK: Duration = Duration::from_millis(20);

/// What poll(2) can wait for.
pub(crate) trait Source: Send + Sync {
    fn fd(&self) -> BorrowedFd<'_>;
}

impl Source for TcpStream {
    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Source for TcpListener {
    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

thread_local! {
    static PARKER: Arc<Parker> = Arc::default();
    static REGISTRY: RefCell<Registry> = RefCell::default();
}

/// Runs a future to its end on this thread. Its waker can be used from any thread, at any time.
///
/// Calls may be nested: a request handler, for example, may call it on the thread of its connection. Sockets and timers
/// of [`Threads`](crate::Threads) work only within `block_on`.
///
/// ```
/// use std::thread;
///
/// use jtp_blocking::ShutdownSignal;
/// use jtp_blocking::runtime::block_on;
///
/// let signal = ShutdownSignal::new();
/// thread::spawn({
///     let signal = signal.clone();
///     move || signal.begin()
/// });
/// block_on(signal.wait());
/// ```
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let parker = PARKER.with(Arc::clone);
    let waker = Waker::from(Arc::clone(&parker));
    let _level = Level::enter(&waker);
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        parker.clear();
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        wait(&parker);
    }
}

/// One `block_on` of this thread, which may be within another.
struct Level<'a>(&'a Waker);

impl Level<'_> {
    fn enter(waker: &Waker) -> Level<'_> {
        REGISTRY.with_borrow_mut(|registry| registry.levels += 1);
        Level(waker)
    }
}

impl Drop for Level<'_> {
    fn drop(&mut self) {
        let unused = REGISTRY.with_borrow_mut(|registry| {
            registry.levels -= 1;
            let outermost = registry.levels == 0;
            outermost.then(|| {
                (
                    std::mem::take(&mut registry.interests),
                    std::mem::take(&mut registry.timers),
                )
            })
        });
        if unused.is_none() {
            // The outer future may have been woken meanwhile: it is polled once more.
            self.0.wake_by_ref();
        }
    }
}

/// Waits until a registered socket is ready, a timer is due, or the thread is woken, and wakes those who registered.
fn wait(parker: &Parker) {
    let fd = parker.fd();
    if !parker.begin_wait() {
        return;
    }
    let fired = REGISTRY.with_borrow_mut(|registry| {
        let fired = registry.poll(fd);
        parker.end_wait();
        fired
    });
    // A waker may run any code, so the registry must not be borrowed.
    fired.into_iter().for_each(Waker::wake);
}

/// What the futures of this thread wait for.
#[derive(Default)]
struct Registry {
    levels: usize,
    interests: Vec<Interest>,
    timers: Vec<Timer>,
    failures: LogThrottle,
}

struct Interest {
    /// Weak, so that a socket is closed when it is dropped.
    source: Weak<dyn Source>,
    flags: PollFlags,
    waker: Waker,
}

struct Timer {
    id: u64,
    deadline: Instant,
    waker: Waker,
}

impl Registry {
    fn add_interest<S: Source + 'static>(
        &mut self,
        source: &Arc<S>,
        flags: PollFlags,
        waker: &Waker,
    ) {
        let known = self.interests.iter_mut().find(|known| {
            std::ptr::addr_eq(known.source.as_ptr(), Arc::as_ptr(source))
                && known.waker.data() == waker.data()
        });
        match known {
            Some(known) => {
                known.flags |= flags;
                known.waker.clone_from(waker);
            }
            None => {
                let source: Weak<S> = Arc::downgrade(source);
                self.interests.push(Interest {
                    source,
                    flags,
                    waker: waker.clone(),
                });
            }
        }
    }

    /// Returns the registration that it replaces: dropping a waker may run any code, so it is not done here.
    fn add_timer(&mut self, id: u64, deadline: Instant, waker: &Waker) -> Option<Timer> {
        let timer = Timer {
            id,
            deadline,
            waker: waker.clone(),
        };
        match self.timers.iter_mut().find(|known| known.id == id) {
            Some(known) => Some(std::mem::replace(known, timer)),
            None => {
                self.timers.push(timer);
                None
            }
        }
    }

    /// Waits in poll(2), removes the registrations that fired, and returns their wakers.
    fn poll(&mut self, wake_fd: Option<&WakeFd>) -> Vec<Waker> {
        // Includes the wakers of dropped sockets: dropping a waker may run any code, so it is not done here.
        let mut fired = Vec::new();
        let mut open = Vec::with_capacity(self.interests.len());
        self.interests.retain(|interest| {
            let source = interest.source.upgrade();
            let is_open = source.is_some();
            match source {
                Some(source) => open.push(source),
                None => fired.push(interest.waker.clone()),
            }
            is_open
        });
        let mut fds = Vec::with_capacity(open.len() + 1);
        let sources = open.iter().zip(&self.interests);
        fds.extend(
            sources.map(|(source, interest)| PollFd::from_borrowed_fd(source.fd(), interest.flags)),
        );
        fds.extend(wake_fd.map(|fd| PollFd::new(fd, PollFlags::IN)));

        let longest = wake_fd.map_or(FALLBACK, |_| LONGEST);
        let everything = match poll(&mut fds, Some(&self.limit(longest))) {
            Ok(_) | Err(Errno::INTR) => false,
            Err(error) => {
                if let Some(count) = self.failures.record(Instant::now()) {
                    tracing::warn!(%error, count, "cannot wait for a connection");
                }
                thread::sleep(FALLBACK);
                true
            }
        };
        let mut ready = fds.iter().map(|fd| everything || !fd.revents().is_empty());
        self.interests.retain(|interest| {
            let ready = ready.next().unwrap_or_default();
            if ready {
                fired.push(interest.waker.clone());
            }
            !ready
        });
        if ready.next().unwrap_or_default() {
            wake_fd.map(WakeFd::drain).unwrap_or_default();
        }
        let now = Instant::now();
        self.timers.retain(|timer| {
            let due = timer.deadline <= now;
            if due {
                fired.push(timer.waker.clone());
            }
            !due
        });
        fired
    }

    fn limit(&self, longest: Duration) -> Timespec {
        let first = self.timers.iter().map(|timer| timer.deadline).min();
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        let limit = first.map_or(longest, left).min(longest);
        Timespec::try_from(limit).unwrap_or_default()
    }
}

/// Performs an operation that does not block. If it is not possible now, registers for the time when it is.
pub(crate) fn attempt<T>(
    source: &Arc<impl Source + 'static>,
    flags: PollFlags,
    cx: &Context<'_>,
    mut work: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return wait_for(source, flags, cx);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return Poll::Ready(done),
        }
    }
}

/// Registers for the time when the source is ready for one of `flags`.
pub(crate) fn wait_for<T>(
    source: &Arc<impl Source + 'static>,
    flags: PollFlags,
    cx: &Context<'_>,
) -> Poll<T> {
    REGISTRY.with_borrow_mut(|registry| registry.add_interest(source, flags, cx.waker()));
    Poll::Pending
}

/// A timer.
#[derive(Debug)]
pub struct Sleep {
    deadline: Instant,
    /// Identifies the registration; 0 before the first one.
    id: u64,
}

impl Sleep {
    pub(crate) fn until(deadline: Instant) -> Sleep {
        Sleep { deadline, id: 0 }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if self.deadline <= Instant::now() {
            return Poll::Ready(());
        }
        if self.id == 0 {
            self.id = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        let (id, deadline) = (self.id, self.deadline);
        drop(REGISTRY.with_borrow_mut(|registry| registry.add_timer(id, deadline, cx.waker())));
        Poll::Pending
    }
}

impl jtp_driver::Sleep for Sleep {
    fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if self.id == 0 {
            return;
        }
        // Fails while the thread ends. A registration in another thread fires in vain.
        let removed = REGISTRY.try_with(|registry| {
            let timers = &mut registry.borrow_mut().timers;
            let known = timers.iter().position(|timer| timer.id == self.id);
            known.map(|known| timers.swap_remove(known))
        });
        drop(removed);
    }
}

#[cfg(test)]
mod tests;
