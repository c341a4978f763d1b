//! What tokio is to the driver.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use jtp_driver::{EventBell, Over, Runtime, SockRef, Socket, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::task::JoinHandle;

/// tokio, as [`jtp_driver`] knows it.
#[derive(Debug, Clone, Copy)]
pub struct Tokio;

/// A stream of tokio's world as a [`Transport`].
#[derive(Debug)]
pub struct Io<T>(T);

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for Io<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(read.filled().len()))
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
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Socket for Io<TcpStream> {
    fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.0)
    }

    async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.peek(buf).await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Over<T> for Tokio {
    type Transport = Io<T>;

    fn over(stream: T) -> Io<T> {
        Io(stream)
    }
}

impl Runtime for Tokio {
    type Bell = EventBell;
    type Sleep = Sleep;
    type Job<T: Send + 'static> = Job<T>;
    type Socket = Io<TcpStream>;
    type Listener = TcpListener;
    type Server<S: ?Sized> = jtp_driver::Server<Tokio, S>;
    type Client = jtp_driver::Client<Tokio>;

    /// tokio's own: tests pause it.
    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(at: Instant) -> Sleep {
        Sleep(Box::pin(tokio::time::sleep_until(at.into())))
    }

    fn spawn(
        _: impl fmt::Display,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        drop(tokio::spawn(task)); // The handle, not the task.
        Ok(())
    }

    fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Job<T> {
        Job(tokio::task::spawn_blocking(work))
    }

    async fn accept(listener: &TcpListener) -> io::Result<(Io<TcpStream>, SocketAddr)> {
        let (stream, address) = listener.accept().await?;
        Ok((Io(stream), address))
    }

    async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host(address).await?.collect())
    }

    async fn connect(address: SocketAddr, _: Option<Duration>) -> io::Result<Io<TcpStream>> {
        TcpStream::connect(address).await.map(Io)
    }
}

/// A timer.
#[derive(Debug)]
pub struct Sleep(Pin<Box<tokio::time::Sleep>>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl jtp_driver::Sleep for Sleep {
    fn reset(&mut self, at: Instant) {
        self.0.as_mut().reset(at.into());
    }
}

/// Blocking work under way.
#[derive(Debug)]
pub struct Job<T>(JoinHandle<T>);

impl<T> Future for Job<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(done) => Poll::Ready(done),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down, and this task with it.
                Err(_) => Poll::Pending,
            },
        }
    }
}

#[cfg(feature = "tls")]
mod tls {
    use std::sync::Arc;

    use jtp_driver::{BoxTransport, PeerCertificates, TlsRuntime};
    use rustls::pki_types::ServerName;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::{Io, TcpStream, Tokio, io};

    impl TlsRuntime for Tokio {
        async fn accept_tls(
            config: Arc<rustls::ServerConfig>,
            socket: Io<TcpStream>,
        ) -> io::Result<(BoxTransport, PeerCertificates)> {
            let stream = TlsAcceptor::from(config).accept(socket.0).await?;
            let certificates = stream.get_ref().1.peer_certificates();
            let certificates = certificates.unwrap_or_default().to_vec();
            Ok((Box::new(Io(stream)), certificates))
        }

        async fn connect_tls(
            config: Arc<rustls::ClientConfig>,
            name: ServerName<'static>,
            socket: Io<TcpStream>,
        ) -> io::Result<BoxTransport> {
            let stream = TlsConnector::from(config).connect(name, socket.0).await?;
            Ok(Box::new(Io(stream)))
        }
    }
}
