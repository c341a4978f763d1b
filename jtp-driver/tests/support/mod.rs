//! A runtime for the driver's tests: smol's sockets, tasks and timers.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use jtp_driver::{BoxFuture, Runtime, Sleep, SockRef, Socket, Transport, WrapStream};
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::{TcpListener, TcpStream};

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Smol;

pub(crate) type Server = jtp_driver::Server<Smol>;
pub(crate) type ServerBuilder = jtp_driver::ServerBuilder<Smol>;
pub(crate) type Client = jtp_driver::Client<Smol>;

impl Runtime for Smol {
    type Sleep = Timer;
    type Socket = Io<TcpStream>;
    type Listener = TcpListener;

    fn sleep_until(&self, deadline: Instant) -> Timer {
        Timer(smol::Timer::at(deadline))
    }

    fn spawn(&self, _: fmt::Arguments<'_>, task: BoxFuture<()>) -> io::Result<()> {
        smol::spawn(task).detach();
        Ok(())
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(Io<TcpStream>, SocketAddr)> {
        let (stream, address) = listener.accept().await?;
        Ok((Io(stream), address))
    }

    async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        smol::net::resolve(address).await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Io<TcpStream>> {
        TcpStream::connect(address).await.map(Io)
    }
}

pub(crate) struct Timer(smol::Timer);

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

impl Sleep for Timer {
    fn reset(&mut self, deadline: Instant) {
        self.0.set_at(deadline);
    }
}

pub(crate) struct Io<T>(pub(crate) T);

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

impl Socket for Io<TcpStream> {
    fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.0)
    }

    async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.peek(buf).await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> WrapStream<T> for Smol {
    type Transport = Io<T>;

    fn wrap(stream: T) -> Io<T> {
        Io(stream)
    }
}

/// A server on a free port, and its address.
pub(crate) async fn start(server: &Server) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.clone();
    smol::spawn(async move { server.serve(listener, std::future::pending()).await }).detach();
    address
}

/// A client that tries once.
pub(crate) fn client(address: &str) -> Client {
    Client::builder(address).retries(0).build()
}

/// Two connected sockets.
#[cfg(unix)]
#[allow(clippy::unused_async)]
pub(crate) async fn socket_pair() -> (smol::net::unix::UnixStream, smol::net::unix::UnixStream) {
    smol::net::unix::UnixStream::pair().unwrap()
}

/// Two connected sockets.
#[cfg(not(unix))]
pub(crate) async fn socket_pair() -> (smol::net::TcpStream, smol::net::TcpStream) {
    let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connected = smol::net::TcpStream::connect(address);
    let (accepted, connected) = smol::future::zip(listener.accept(), connected).await;
    (accepted.unwrap().0, connected.unwrap())
}

/// The bytes of all images.
pub(crate) async fn fetch_all(
    client: &mut Client,
) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    let mut images = client.list_and_get();
    while let Some(image) = images.next().await? {
        all.push(image.bytes(1 << 30).await?);
    }
    Ok(all)
}

/// A store with one image of these bytes for each.
pub(crate) fn memory(images: &[&'static [u8]]) -> Arc<jtp_driver::store::MemoryStore> {
    let store = jtp_driver::store::MemoryStore::new();
    for (n, bytes) in images.iter().enumerate() {
        store.insert(&format!("{n:04}.png"), *bytes).unwrap();
    }
    Arc::new(store)
}
