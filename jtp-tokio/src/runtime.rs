//! tokio as a runtime of the driver.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use jtp_driver::{BoxFuture, Runtime, SockRef, Socket, Transport, WrapStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::runtime::{EnterGuard, Handle};

/// tokio: the runtime that the caller runs in, or another one by its handle.
#[derive(Debug, Clone, Default)]
pub struct Tokio {
    handle: Option<Handle>,
}

impl Tokio {
    /// Uses this runtime's tasks, sockets and timers, wherever the server or client is called: on another runtime, or on
    /// a thread outside of any.
    #[must_use]
    pub fn with_handle(handle: Handle) -> Tokio {
        Tokio {
            handle: Some(handle),
        }
    }

    fn enter(&self) -> Option<EnterGuard<'_>> {
        self.handle.as_ref().map(Handle::enter)
    }

    /// Polls a future in the runtime of the handle: tokio's sockets find their runtime by the thread.
    async fn inside<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let _entered = self.enter();
            future.as_mut().poll(cx)
        })
        .await
    }
}

impl Runtime for Tokio {
    type Sleep = Sleep;
    type Socket = Io<TcpStream>;
    type Listener = TcpListener;

    /// tokio's own clock, which tests can pause.
    fn now(&self) -> Instant {
        let _entered = self.enter();
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        let _entered = self.enter();
        Sleep(Box::pin(tokio::time::sleep_until(deadline.into())))
    }

    fn spawn(&self, _: fmt::Arguments<'_>, task: BoxFuture<()>) -> io::Result<()> {
        // Dropping the join handle detaches the task.
        drop(match &self.handle {
            Some(handle) => handle.spawn(task),
            None => tokio::spawn(task),
        });
        Ok(())
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(Io<TcpStream>, SocketAddr)> {
        let (stream, address) = self.inside(listener.accept()).await?;
        Ok((stream.into(), address))
    }

    async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(self.inside(lookup_host(address)).await?.collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Io<TcpStream>> {
        self.inside(TcpStream::connect(address)).await.map(Io::from)
    }
}

/// A stream of tokio's traits as a [`Transport`].
#[derive(Debug)]
pub struct Io<T> {
    stream: T,
    socket: fn(&T) -> Option<SockRef<'_>>,
}

impl From<TcpStream> for Io<TcpStream> {
    fn from(stream: TcpStream) -> Io<TcpStream> {
        Io {
            stream,
            socket: |stream| Some(SockRef::from(stream)),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for Io<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(read.filled().len()))
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn socket(&self) -> Option<SockRef<'_>> {
        (self.socket)(&self.stream)
    }
}

impl Socket for Io<TcpStream> {
    fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.stream)
    }

    async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.peek(buf).await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> WrapStream<T> for Tokio {
    type Transport = Io<T>;

    fn wrap(stream: T) -> Io<T> {
        Io {
            stream,
            socket: |_| None,
        }
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
    fn reset(&mut self, deadline: Instant) {
        self.0.as_mut().reset(deadline.into());
    }
}

#[cfg(feature = "tls")]
mod tls {
    use std::sync::Arc;

    use jtp_driver::{BoxTransport, TlsPeer, TlsRuntime};
    use rustls::pki_types::ServerName;
    use tokio_rustls::TlsAcceptor;

    use super::{Io, SockRef, TcpStream, Tokio, io};

    impl TlsRuntime for Tokio {
        fn accept_tls(
            &self,
            config: Arc<rustls::ServerConfig>,
            socket: Io<TcpStream>,
        ) -> impl Future<Output = io::Result<(BoxTransport, TlsPeer)>> + Send + 'static {
            let accept = TlsAcceptor::from(config).accept(socket.stream);
            async move {
                let stream = accept.await?;
                let peer = TlsPeer::from(stream.get_ref().1);
                let stream = Io {
                    stream,
                    socket: |stream| Some(SockRef::from(stream.get_ref().0)),
                };
                Ok((Box::new(stream) as BoxTransport, peer))
            }
        }

        fn connect_tls(
            &self,
            config: Arc<rustls::ClientConfig>,
            name: ServerName<'static>,
            socket: Io<TcpStream>,
        ) -> impl Future<Output = io::Result<BoxTransport>> + Send + 'static {
            jtp_driver::tls::connect(config, name, socket)
        }
    }
}
