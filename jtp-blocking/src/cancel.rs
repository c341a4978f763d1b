//! Cancelling a client from another thread.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use jtp_driver::{Error, ImageError};

use crate::reactor::block_on;

/// Cancels a [`Client`](crate::Client) from any thread. Clones cancel the same client.
///
/// [`cancel`](CancelHandle::cancel) closes the connection, and the call that the client is blocked in returns
/// [`Error::Cancelled`] at once, whatever it waits for: the resolver, a connection, a response, the next image of a
/// watch, or the pause before a retry. Later calls of the client return the same.
///
/// ```no_run
/// # use std::{thread, time::Duration};
/// use jtp_blocking::{Client, Error};
///
/// let mut client = Client::builder("gallery.example:8443").build();
/// let handle = client.cancel_handle();
/// thread::spawn(move || {
///     thread::sleep(Duration::from_secs(5)); // Or wait for a button.
///     handle.cancel();
/// });
/// match client.list() {
///     Err(Error::Cancelled) => println!("cancelled"),
///     listed => println!("{} images", listed?.len()),
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct CancelHandle(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_cancelled: bool,
    /// Wakes the thread that is blocked in a call of the client.
    waker: Option<Waker>,
    connection: Option<Weak<dyn Abort>>,
}

/// A connection that another thread can close.
pub(crate) trait Abort: Send + Sync + std::fmt::Debug {
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// The error of a cancelled call.
pub(crate) trait Cancelled {
    fn cancelled() -> Self;
}

impl Cancelled for Error {
    fn cancelled() -> Error {
        Error::Cancelled
    }
}

impl Cancelled for ImageError {
    fn cancelled() -> ImageError {
        ImageError::Fatal(Error::Cancelled)
    }
}

thread_local! {
    /// That of the client whose future this thread runs.
    static RUNNING: RefCell<Option<CancelHandle>> = const { RefCell::new(None) };
}

impl CancelHandle {
    /// Cancels the client, for good. Does not block.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.is_cancelled = true;
        let (connection, waker) = (state.connection.take(), state.waker.take());
        drop(state);
        if let Some(connection) = connection.and_then(|connection| connection.upgrade()) {
            connection.abort();
        }
        waker.into_iter().for_each(Waker::wake);
    }

    /// Whether the client was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.lock().is_cancelled
    }

    /// Runs a future of the client until it ends or is cancelled.
    pub(crate) fn run<T, E: Cancelled>(
        &self,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if self.is_cancelled() {
            return Err(E::cancelled());
        }
        let _running = Running::enter(self);
        let mut future = pin!(future);
        let result = block_on(poll_fn(|cx| {
            // Also after a cancellation: the driver finds the connection closed, and drops it.
            let result = future.as_mut().poll(cx);
            let mut state = self.lock();
            match result {
                Poll::Ready(Err(_)) | Poll::Pending if state.is_cancelled => {
                    Poll::Ready(Err(E::cancelled()))
                }
                Poll::Pending => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                ready => ready,
            }
        }));
        self.lock().waker = None;
        result
    }

    /// Sets the connection that a cancellation closes.
    pub(crate) fn set_connection<A: Abort + 'static>(&self, connection: &Arc<A>) {
        let mut state = self.lock();
        if state.is_cancelled {
            drop(state);
            connection.abort();
        } else {
            let connection: Weak<A> = Arc::downgrade(connection);
            state.connection = Some(connection);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cancellation of the client whose future this thread runs, if it runs one, closes this connection.
pub(crate) fn connected(stream: &Arc<TcpStream>) {
    RUNNING.with_borrow(|running| {
        if let Some(client) = running {
            client.set_connection(stream);
        }
    });
}

/// Fails if the client whose future this thread runs was cancelled: it must not connect again.
pub(crate) fn check() -> io::Result<()> {
    let running = RUNNING.with_borrow(Clone::clone);
    if running.is_some_and(|client| client.is_cancelled()) {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "cancelled",
        ));
    }
    Ok(())
}

/// A client's future runs on this thread until this is dropped, which restores the client of an outer call.
struct Running(Option<CancelHandle>);

impl Running {
    fn enter(handle: &CancelHandle) -> Running {
        Running(RUNNING.replace(Some(handle.clone())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.0.take());
    }
}
