//! All that comes from a runtime: sockets, tasks, timers, and threads that may block.
//!
//! The rest of the crate is written against futures-io and does not know which one it runs on.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

#[cfg(feature = "async-std")]
mod chosen {
    use std::io;
    use std::net::SocketAddr;

    use async_std::net::ToSocketAddrs;
    pub(crate) use async_std::net::{TcpListener, TcpStream};
    pub(crate) use async_std::task::{JoinHandle as Blocking, sleep, spawn_blocking};

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        // Dropping the handle detaches the task.
        drop(async_std::task::spawn(task));
    }

    pub(crate) async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(address.to_socket_addrs().await?.collect())
    }
}

#[cfg(all(feature = "smol", not(feature = "async-std")))]
mod chosen {
    use std::time::Duration;

    pub(crate) use smol::net::{TcpListener, TcpStream, resolve};
    pub(crate) use smol::{Task as Blocking, unblock as spawn_blocking};

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    pub(crate) async fn sleep(duration: Duration) {
        smol::Timer::after(duration).await;
    }
}

pub(crate) use chosen::*;

/// A TCP stream whose `poll_close` half-closes it (S11) on either runtime: async-std's own only flushes.
pub(crate) struct Tcp(pub(crate) TcpStream);

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(Shutdown::Write))
    }
}
