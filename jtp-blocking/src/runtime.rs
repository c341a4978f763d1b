//! The runtime that [`jtp_driver`] runs on: threads.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use jtp_driver::{BoxFuture, Runtime, SockRef, Socket, Transport};

use crate::STACK_SIZE;
#[cfg(feature = "client")]
use crate::cancel;
use crate::connect::connect;
use crate::reactor::{PollFlags, attempt};
pub use crate::reactor::{Sleep, block_on};
use crate::resolve::resolve;

/// Runs each task on a thread of its own, which waits in poll(2). Sockets and timers work only within [`block_on`].
#[derive(Debug, Clone, Copy)]
pub struct Threads {
    stack_size: usize,
}

impl Default for Threads {
    fn default() -> Self {
        Threads {
            stack_size: STACK_SIZE,
        }
    }
}

impl Threads {
    /// Sets the stack size of each connection's thread in bytes. Default: 512 KiB. Request handlers run on it.
    #[must_use]
    pub fn with_stack_size(mut self, stack_size: usize) -> Threads {
        self.stack_size = stack_size;
        self
    }

    /// The stack size of each connection's thread in bytes.
    #[must_use]
    pub fn stack_size(&self) -> usize {
        self.stack_size
    }
}

impl Runtime for Threads {
    type Sleep = Sleep;
    type Socket = Tcp;
    type Listener = Arc<TcpListener>;

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep::until(deadline)
    }

    fn spawn(&self, name: fmt::Arguments<'_>, task: BoxFuture<()>) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_string());
        let thread = thread.stack_size(self.stack_size);
        thread.spawn(move || block_on(task)).map(drop)
    }

    async fn accept(&self, listener: &Arc<TcpListener>) -> io::Result<(Tcp, SocketAddr)> {
        let accept = || listener.accept();
        let accept = poll_fn(|cx| attempt(listener, PollFlags::IN, cx, accept));
        let (stream, address) = accept.await?;
        Ok((Tcp::new(stream)?, address))
    }

    async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        #[cfg(feature = "client")]
        cancel::check()?;
        resolve(address).await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Tcp> {
        #[cfg(feature = "client")]
        cancel::check()?;
        let stream = connect(address).await?;
        #[cfg(feature = "client")]
        cancel::connected(&stream);
        Ok(Tcp(stream))
    }
}

/// A TCP connection in non-blocking mode.
#[derive(Debug)]
pub struct Tcp(pub(crate) Arc<TcpStream>);

impl Tcp {
    /// Puts the stream into non-blocking mode.
    ///
    /// # Errors
    ///
    /// The mode cannot be set.
    pub fn new(stream: TcpStream) -> io::Result<Tcp> {
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

    fn socket(&self) -> Option<SockRef<'_>> {
        Some(self.options())
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
