//! What threads are to the driver.

use std::fmt;
use std::future::{Ready, poll_fn, ready};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use jtp_driver::{Over, Runtime, SockRef, Socket, Transport};

use crate::connect::connect;
use crate::halves::Halves;
use crate::reactor::{PollFlags, attempt};
pub use crate::reactor::{Sleep, block_on};
use crate::resolve::resolve;
use crate::{Client, STACK_SIZE, Server, cancel};
pub use jtp_driver::EventBell as Bell;

/// Threads as [`jtp_driver`] knows them: each runs one future, and waits for it by poll(2).
#[derive(Debug, Clone, Copy)]
pub struct Threads;

impl Runtime for Threads {
    type Bell = Bell;
    type Sleep = Sleep;
    type Job<T: Send + 'static> = Ready<T>;
    type Socket = Tcp;
    type Listener = Arc<TcpListener>;
    type Server<S: ?Sized> = Server<S>;
    type Client = Client;

    /// The connection's own thread reads from the disk: what is ready goes out first.
    const LOADS_ASIDE: bool = false;
    const SHARES_THREADS: bool = false;

    fn sleep_until(at: Instant) -> Sleep {
        Sleep::until(at)
    }

    fn spawn(
        name: impl fmt::Display,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_string());
        // In a box, since it is moved about on a small stack.
        let task = Box::pin(task);
        thread
            .stack_size(STACK_SIZE)
            .spawn(move || block_on(task))?;
        Ok(())
    }

    fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Ready<T> {
        ready(work())
    }

    async fn accept(listener: &Arc<TcpListener>) -> io::Result<(Tcp, SocketAddr)> {
        let accept = || listener.accept();
        let (stream, address) = poll_fn(|cx| attempt(listener, PollFlags::IN, cx, accept)).await?;
        Ok((Tcp::new(stream)?, address))
    }

    async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
        cancel::check()?;
        resolve(address).await
    }

    async fn connect(address: SocketAddr, limit: Option<Duration>) -> io::Result<Tcp> {
        let _ = limit;
        cancel::check()?;
        let stream = connect(address).await?;
        cancel::connected(&stream);
        Ok(Tcp(stream))
    }
}

impl Over<Halves> for Threads {
    type Transport = Halves;

    fn over(stream: Halves) -> Halves {
        stream
    }
}

/// Plain TCP, in non-blocking mode.
#[derive(Debug)]
pub struct Tcp(pub(crate) Arc<TcpStream>);

impl Tcp {
    fn new(stream: TcpStream) -> io::Result<Tcp> {
        stream.set_nonblocking(true)?;
        Ok(Tcp(Arc::new(stream)))
    }
}

impl Transport for Tcp {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        attempt(&self.0, PollFlags::IN, cx, || (&*self.0).read(buf))
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        attempt(&self.0, PollFlags::OUT, cx, || {
            (&*self.0).write_vectored(bufs)
        })
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(Shutdown::Write))
    }
}

impl Socket for Tcp {
    fn options(&self) -> SockRef<'_> {
        SockRef::from(&*self.0)
    }

    async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| attempt(&self.0, PollFlags::IN, cx, || self.0.peek(buf))).await
    }
}
