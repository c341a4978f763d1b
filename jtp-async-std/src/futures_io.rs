//! Streams of futures-io as transports.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use jtp_driver::{SockRef, Transport};

/// A stream of futures-io as a [`Transport`].
#[derive(Debug)]
pub struct Io<T> {
    pub(crate) stream: T,
    pub(crate) socket: fn(&T) -> Option<SockRef<'_>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for Io<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
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
        Pin::new(&mut self.stream).poll_close(cx)
    }

    fn socket(&self) -> Option<SockRef<'_>> {
        (self.socket)(&self.stream)
    }
}

/// Implements a runtime's sockets, and TLS over them. async-std and smol have the same types under other names.
macro_rules! sockets {
    ($runtime:ty, $stream:ty) => {
        /// A TCP stream whose `poll_close` closes the write side (S11). async-std's own only flushes.
        #[derive(Debug)]
        pub struct Tcp($stream);

        impl From<$stream> for Io<Tcp> {
            fn from(stream: $stream) -> Io<Tcp> {
                Io {
                    stream: Tcp(stream),
                    socket: |stream| Some(SockRef::from(&stream.0)),
                }
            }
        }

        impl Socket for Io<Tcp> {
            fn options(&self) -> SockRef<'_> {
                SockRef::from(&self.stream.0)
            }

            async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.stream.0.peek(buf).await
            }
        }

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

        impl<T: AsyncRead + AsyncWrite + Unpin> WrapStream<T> for $runtime {
            type Transport = Io<T>;

            fn wrap(stream: T) -> Io<T> {
                Io {
                    stream,
                    socket: |_| None,
                }
            }
        }

        #[cfg(feature = "tls")]
        impl jtp_driver::TlsRuntime for $runtime {
            fn accept_tls(
                &self,
                config: std::sync::Arc<rustls::ServerConfig>,
                socket: Io<Tcp>,
            ) -> impl Future<Output = io::Result<(jtp_driver::BoxTransport, jtp_driver::TlsPeer)>>
            + Send
            + 'static {
                async move {
                    let acceptor = futures_rustls::TlsAcceptor::from(config);
                    let stream = acceptor.accept(socket.stream).await?;
                    let peer = jtp_driver::TlsPeer::from(stream.get_ref().1);
                    let stream = Io {
                        stream,
                        socket: |stream| Some(SockRef::from(&stream.get_ref().0.0)),
                    };
                    Ok((Box::new(stream) as jtp_driver::BoxTransport, peer))
                }
            }

            fn connect_tls(
                &self,
                config: std::sync::Arc<rustls::ClientConfig>,
                name: rustls::pki_types::ServerName<'static>,
                socket: Io<Tcp>,
            ) -> impl Future<Output = io::Result<jtp_driver::BoxTransport>> + Send + 'static {
                jtp_driver::tls::connect(config, name, socket)
            }
        }
    };
}

pub(crate) use sockets;
