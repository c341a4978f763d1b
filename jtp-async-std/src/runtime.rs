//! What async-std, or smol, is to the driver: sockets, tasks, timers, and threads that may block. All else is
//! written against futures-io.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use jtp_driver::{EventBell, Over, Runtime, SockRef, Socket, Transport};

pub use chosen::{Job, Sleep};
use chosen::{TcpListener, TcpStream};

/// The runtime that the features name, with its global executor, as [`jtp_driver`] knows it.
#[derive(Debug, Clone, Copy)]
pub struct Global;

#[cfg(feature = "async-std")]
mod chosen {
    use std::io;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Instant;

    use async_std::net::ToSocketAddrs;
    pub(crate) use async_std::net::{TcpListener, TcpStream};
    pub use async_std::task::JoinHandle as Job;
    pub(crate) use async_std::task::spawn_blocking;

    /// A timer.
    pub struct Sleep(Pin<Box<dyn Future<Output = ()> + Send>>);

    impl Sleep {
        pub(crate) fn until(at: Instant) -> Sleep {
            let left = at.saturating_duration_since(Instant::now());
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
        fn reset(&mut self, at: Instant) {
            *self = Sleep::until(at);
        }
    }

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
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Instant;

    pub use smol::Task as Job;
    pub(crate) use smol::net::{TcpListener, TcpStream, resolve};
    pub(crate) use smol::unblock as spawn_blocking;

    /// A timer.
    pub struct Sleep(smol::Timer);

    impl Sleep {
        pub(crate) fn until(at: Instant) -> Sleep {
            Sleep(smol::Timer::at(at))
        }
    }

    impl Future for Sleep {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            Pin::new(&mut self.0).poll(cx).map(drop)
        }
    }

    impl jtp_driver::Sleep for Sleep {
        fn reset(&mut self, at: Instant) {
            self.0.set_at(at);
        }
    }

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").finish_non_exhaustive()
    }
}

impl Runtime for Global {
    type Bell = EventBell;
    type Sleep = Sleep;
    type Job<T: Send + 'static> = Job<T>;
    type Socket = Io<Tcp>;
    type Listener = TcpListener;
    type Server<S: ?Sized> = jtp_driver::Server<Global, S>;
    type Client = jtp_driver::Client<Global>;

    fn sleep_until(at: Instant) -> Sleep {
        Sleep::until(at)
    }

    fn spawn(
        _: impl fmt::Display,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        chosen::spawn(task);
        Ok(())
    }

    fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Job<T> {
        chosen::spawn_blocking(work)
    }

    async fn accept(listener: &TcpListener) -> io::Result<(Io<Tcp>, SocketAddr)> {
        let (stream, address) = listener.accept().await?;
        Ok((Io(Tcp(stream)), address))
    }

    async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
        chosen::resolve(address).await
    }

    async fn connect(address: SocketAddr, _: Option<Duration>) -> io::Result<Io<Tcp>> {
        TcpStream::connect(address).await.map(Tcp).map(Io)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Over<T> for Global {
    type Transport = Io<T>;

    fn over(stream: T) -> Io<T> {
        Io(stream)
    }
}

/// A stream of futures-io as a [`Transport`].
#[derive(Debug)]
pub struct Io<T>(T);

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for Io<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

impl Socket for Io<Tcp> {
    fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.0.0)
    }

    async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.0.peek(buf).await
    }
}

/// A TCP stream whose `poll_close` half-closes it (S11) on either runtime: async-std's own only flushes.
#[derive(Debug)]
pub struct Tcp(TcpStream);

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

#[cfg(feature = "tls")]
mod tls {
    use std::sync::Arc;

    use futures_rustls::{TlsAcceptor, TlsConnector};
    use jtp_driver::{BoxTransport, PeerCertificates, TlsRuntime};
    use rustls::pki_types::ServerName;

    use super::{Global, Io, Tcp, io};

    impl TlsRuntime for Global {
        async fn accept_tls(
            config: Arc<rustls::ServerConfig>,
            socket: Io<Tcp>,
        ) -> io::Result<(BoxTransport, PeerCertificates)> {
            let stream = TlsAcceptor::from(config).accept(socket.0).await?;
            let certificates = stream.get_ref().1.peer_certificates();
            let certificates = certificates.unwrap_or_default().to_vec();
            Ok((Box::new(Io(stream)), certificates))
        }

        async fn connect_tls(
            config: Arc<rustls::ClientConfig>,
            name: ServerName<'static>,
            socket: Io<Tcp>,
        ) -> io::Result<BoxTransport> {
            let stream = TlsConnector::from(config).connect(name, socket.0).await?;
            Ok(Box::new(Io(stream)))
        }
    }
}
