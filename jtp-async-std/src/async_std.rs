//! async-std as a runtime of the driver.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use async_std::net::{TcpListener, TcpStream, ToSocketAddrs};
use futures_io::{AsyncRead, AsyncWrite};
use jtp_driver::{BoxFuture, Runtime, SockRef, Socket, WrapStream};

pub use crate::futures_io::Io;

/// async-std, with its global executor.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsyncStd;

crate::futures_io::sockets!(AsyncStd, TcpStream);

impl Runtime for AsyncStd {
    type Sleep = Sleep;
    type Socket = Io<Tcp>;
    type Listener = TcpListener;

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep::until(deadline)
    }

    fn spawn(&self, _: fmt::Arguments<'_>, task: BoxFuture<()>) -> io::Result<()> {
        // Dropping the handle detaches the task.
        drop(async_std::task::spawn(task));
        Ok(())
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(Io<Tcp>, SocketAddr)> {
        let (stream, address) = listener.accept().await?;
        Ok((stream.into(), address))
    }

    async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(address.to_socket_addrs().await?.collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Io<Tcp>> {
        TcpStream::connect(address).await.map(Io::from)
    }
}

/// A timer.
pub struct Sleep(BoxFuture<()>);

impl Sleep {
    fn until(deadline: Instant) -> Sleep {
        let left = deadline.saturating_duration_since(Instant::now());
        Sleep(Box::pin(async_std::task::sleep(left)))
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl jtp_driver::Sleep for Sleep {
    fn reset(&mut self, deadline: Instant) {
        *self = Sleep::until(deadline);
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").finish_non_exhaustive()
    }
}
