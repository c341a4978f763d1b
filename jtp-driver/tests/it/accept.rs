//! Accepting while the system has no file descriptors left, on simulated time.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use jtp_async_std::smol::Smol;
use jtp_driver::store::MemoryStore;
use jtp_driver::{BoxFuture, Runtime, Server};
use jtp_kit::logged_by;
use tracing::Level;

thread_local! {
    static NOW: Cell<Instant> = Cell::new(Instant::now());
    /// What the future waits for.
    static NEXT: Cell<Option<Instant>> = const { Cell::new(None) };
    static ACCEPTS: Cell<usize> = const { Cell::new(0) };
}

type Tcp = <Smol as Runtime>::Socket;

#[derive(Debug, Clone, Copy, Default)]
struct Simulated;

impl Runtime for Simulated {
    type Sleep = Sleep;
    /// No connection ever comes.
    type Socket = Tcp;
    type Listener = ();

    fn now(&self) -> Instant {
        NOW.get()
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep(deadline)
    }

    fn spawn(&self, _: fmt::Arguments<'_>, _: BoxFuture<()>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn accept(&self, (): &()) -> io::Result<(Tcp, SocketAddr)> {
        ACCEPTS.set(ACCEPTS.get() + 1);
        Err(io::Error::other("no file descriptors"))
    }

    async fn resolve(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn connect(&self, _: SocketAddr) -> io::Result<Tcp> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct Sleep(Instant);

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0 <= NOW.get() {
            return Poll::Ready(());
        }
        NEXT.set(Some(NEXT.get().map_or(self.0, |next| next.min(self.0))));
        Poll::Pending
    }
}

impl jtp_driver::Sleep for Sleep {
    fn reset(&mut self, at: Instant) {
        self.0 = at;
    }
}

/// Lets time pass until it is done.
fn simulate<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(done) = future.as_mut().poll(&mut cx) {
            return done;
        }
        NOW.set(NEXT.take().expect("it waits for a time"));
    }
}

#[test]
fn accepting_goes_on_after_errors_and_they_are_logged_once_in_ten_seconds() {
    let server = Server::<Simulated>::builder(MemoryStore::new()).build();
    let stop = Simulated.sleep_until(NOW.get() + Duration::from_millis(34_950));
    let logged = logged_by(|| simulate(server.serve((), stop)).unwrap());
    assert_eq!(ACCEPTS.get(), 350, "one in 100 ms");
    let warnings = logged.iter().filter(|(level, _)| *level == Level::WARN);
    assert_eq!(warnings.count(), 4, "at 0, 10, 20 and 30 s");
}
