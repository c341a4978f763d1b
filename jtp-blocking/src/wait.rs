//! Running the driver's futures on a thread of their own.
//!
//! A future that has nothing to do notes what it waits for (sockets, bells, a time) before it says so; then the
//! thread makes one poll(2) over all of that, and looks at everything again. So it needs no waker but for a
//! future that only lets others have their turn.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use rustix::event::PollFlags;
use rustix::event::{PollFd, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

/// The longest that a thread waits at a time, as far as one can tell for ever.
const LONGEST: Duration = Duration::from_secs(86_400);

/// How long a thread waits that the system lets wait for nothing.
const FALLBACK: Duration = Duration::from_millis(20);

/// What can be polled. It is shared, so that it is still open when it is polled.
pub(crate) trait Source: Send + Sync {
    fn fd(&self) -> BorrowedFd<'_>;

    /// A wait has ended; what it was for is looked at next.
    fn woken(&self) {}
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
    /// What the future that runs on this thread has said since it was polled.
    static WAITS: RefCell<Waits> = RefCell::default();
    /// For the next [`block_on`]: its calls are too many to make one for each.
    static SPARE: Cell<Option<Arc<Again>>> = const { Cell::new(None) };
}

#[derive(Default)]
struct Waits {
    sources: Vec<(Arc<dyn Source>, PollFlags)>,
    until: Option<Instant>,
}

/// Whether the future wants to be polled again at once.
struct Again(AtomicBool);

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Notes that the future that is being polled waits for this.
pub(crate) fn wait_for<T>(source: Arc<dyn Source>, flags: PollFlags) -> Poll<T> {
    WAITS.with_borrow_mut(|waits| {
        let mut known = waits.sources.iter_mut();
        match known.find(|(known, _)| std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(&source))) {
            Some((_, known)) => *known |= flags,
            None => waits.sources.push((source, flags)),
        }
    });
    Poll::Pending
}

/// Does what never waits; notes what it waits for if it would have to.
pub(crate) fn attempt<T>(
    source: &Arc<impl Source + 'static>,
    flags: PollFlags,
    mut work: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return wait_for(Arc::clone(source) as Arc<dyn Source>, flags);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return Poll::Ready(done),
        }
    }
}

/// A timer: a time that the next wait ends at.
#[derive(Debug)]
pub struct Sleep(Instant);

impl Sleep {
    pub(crate) fn until(at: Instant) -> Sleep {
        Sleep(at)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0 <= Instant::now() {
            return Poll::Ready(());
        }
        WAITS.with_borrow_mut(|waits| {
            waits.until = Some(waits.until.map_or(self.0, |until| until.min(self.0)));
        });
        Poll::Pending
    }
}

impl jtp_driver::Sleep for Sleep {
    fn reset(&mut self, at: Instant) {
        self.0 = at;
    }
}

/// Runs a future of the driver to its end. May be called from within one (by a store, or a hook).
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let again = SPARE.take();
    let again = again.unwrap_or_else(|| Arc::new(Again(AtomicBool::new(false))));
    let _outer = Outer(WAITS.take());
    let waker = Waker::from(Arc::clone(&again));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut cx) {
            again.0.store(false, Ordering::Relaxed);
            SPARE.set(Some(again));
            return done;
        }
        if again.0.swap(false, Ordering::Relaxed) {
            WAITS.with_borrow_mut(Waits::clear);
        } else {
            wait();
        }
    }
}

/// What an outer future waits for, put back when the inner one has ended.
struct Outer(Waits);

impl Drop for Outer {
    fn drop(&mut self) {
        WAITS.set(std::mem::take(&mut self.0));
    }
}

impl Waits {
    fn clear(&mut self) {
        self.sources.clear();
        self.until = None;
    }

    fn poll(&self) -> io::Result<()> {
        let sources = self.sources.iter();
        let mut fds: Vec<PollFd<'_>> = sources
            .map(|(source, flags)| PollFd::from_borrowed_fd(source.fd(), *flags))
            .collect();
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        let limit = self.until.map_or(LONGEST, left).min(LONGEST);
        let limit = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits until something has happened of what was noted, and forgets it.
fn wait() {
    let mut waits = WAITS.take();
    if let Err(error) = waits.poll() {
        // The system is out of memory: it goes on, only slower.
        tracing::warn!(%error, "cannot wait for a connection");
        thread::sleep(FALLBACK);
    }
    for (source, _) in &waits.sources {
        source.woken();
    }
    waits.clear();
    WAITS.set(waits);
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use jtp_driver::Bell as _;

    use super::*;
    use crate::bell::Bell;

    #[test]
    fn a_future_within_a_future_leaves_the_waits_of_the_outer_one_alone() {
        let bell = Arc::new(Bell::new().unwrap());
        let mut rung = pin!(Arc::clone(&bell).rung());
        let mut first = true;
        block_on(poll_fn(|cx| {
            let done = rung.as_mut().poll(cx);
            if std::mem::take(&mut first) {
                assert!(done.is_pending());
                // It also asks to be polled again, which is no business of the outer one.
                let mut turns = 0;
                block_on(poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    turns += 1;
                    if turns < 3 {
                        Poll::Pending
                    } else {
                        Poll::Ready(())
                    }
                }));
                block_on(Sleep::until(Instant::now() + Duration::from_millis(1)));
                let bell = Arc::clone(&bell);
                thread::spawn(move || bell.ring());
            }
            done // Lost, the bell would be waited for in vain.
        }));
    }

    #[test]
    fn the_earliest_time_ends_a_wait_and_a_stale_one_none() {
        let begun = Instant::now();
        let late = Sleep::until(begun + Duration::from_secs(3600));
        let (mut late, mut soon) = (late, Sleep::until(begun + Duration::from_millis(5)));
        block_on(poll_fn(|cx| {
            assert!(Pin::new(&mut late).poll(cx).is_pending());
            Pin::new(&mut soon).poll(cx)
        }));
        assert!(begun.elapsed() >= Duration::from_millis(5));
        WAITS.with_borrow(|waits| assert!(waits.sources.is_empty() && waits.until.is_none()));
    }
}
