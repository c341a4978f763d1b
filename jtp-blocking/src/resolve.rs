//! Resolving names without blocking.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

/// Resolves `HOST:PORT` on a thread of its own, since the system offers only a blocking call. If the future is dropped
/// the thread ends when the call returns, and nobody waits for it.
pub(crate) async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let name = address.to_owned();
    run("jtp resolver", move || {
        Ok(name.to_socket_addrs()?.collect())
    })
    .await
}

/// Runs blocking work on a new thread. The stack has the default size: resolvers are foreign code.
async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let slot = Arc::new(Slot(Mutex::new((State::Running, None))));
    let finisher = Finisher(Arc::clone(&slot));
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let result = work();
            finisher.0.lock().0 = State::Done(result);
        })?;
    poll_fn(|cx| {
        let mut slot = slot.lock();
        match std::mem::replace(&mut slot.0, State::Running) {
            State::Running => {
                slot.1 = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Done(result) => Poll::Ready(result),
            State::Panicked => Poll::Ready(Err(io::Error::other("the thread panicked"))),
        }
    })
    .await
}

struct Slot<T>(Mutex<(State<T>, Option<Waker>)>);

enum State<T> {
    Running,
    Done(io::Result<T>),
    Panicked,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, (State<T>, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the future when the work ends, also by a panic.
struct Finisher<T>(Arc<Slot<T>>);

impl<T> Drop for Finisher<T> {
    fn drop(&mut self) {
        let mut slot = self.0.lock();
        if let State::Running = slot.0 {
            slot.0 = State::Panicked;
        }
        let waker = slot.1.take();
        drop(slot);
        waker.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::reactor::{Sleep, block_on};

    #[test]
    fn addresses_and_names_are_resolved() {
        let addresses = block_on(resolve("127.0.0.1:80")).unwrap();
        assert_eq!(addresses, ["127.0.0.1:80".parse().unwrap()]);
        let addresses = block_on(resolve("localhost:80")).unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
        assert!(!addresses.is_empty());
        assert!(block_on(resolve("no port")).is_err());
    }

    #[test]
    fn nobody_waits_for_work_whose_future_is_dropped() {
        let (sender, receiver) = mpsc::channel::<()>();
        let mut stalled = Box::pin(run("stalled", move || Ok(receiver.recv())));
        let mut limit = pin!(Sleep::until(Instant::now() + Duration::from_millis(20)));
        block_on(poll_fn(|cx| {
            assert!(stalled.as_mut().poll(cx).is_pending());
            limit.as_mut().poll(cx)
        }));
        drop(stalled);
        sender.send(()).unwrap(); // The thread has waited until now.
    }

    #[test]
    fn a_panic_is_an_error() {
        let panicking = run("panicking", || -> io::Result<()> {
            panic!("expected by the test")
        });
        assert!(block_on(panicking).is_err());
    }
}
