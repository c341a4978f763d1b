//! The server's TLS over TCP.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::task::{Context, Poll};

use jtp_driver::{BoxTransport, SockRef, TlsPeer, TlsRuntime, Transport};
use rustls::ServerConnection;
use rustls::pki_types::ServerName;

use crate::reactor::{PollFlags, attempt, wait_for};
use crate::runtime::{Tcp, Threads};

/// The most bytes of one read from the socket.
const READ_SIZE: usize = 64 * 1024;

/// A server's TLS connection over a socket in non-blocking mode. rustls buffers at most 64 KiB of output, which is the
/// little that C6 allows.
#[derive(Debug)]
pub(crate) struct Tls {
    socket: Arc<TcpStream>,
    connection: ServerConnection,
    /// Bytes of the socket. Those from `start` to `end` were not passed to rustls yet. Freed while idle.
    input: Vec<u8>,
    start: usize,
    end: usize,
    closing: bool,
}

#[expect(
    clippy::manual_async_fn,
    reason = "the futures do not borrow self, as those of async functions would"
)]
impl TlsRuntime for Threads {
    fn accept_tls(
        &self,
        config: Arc<rustls::ServerConfig>,
        socket: Tcp,
    ) -> impl Future<Output = io::Result<(BoxTransport, TlsPeer)>> + Send + 'static {
        async move {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            let stream = Tls::handshake(connection, socket).await?;
            let peer = TlsPeer::from(&stream.connection);
            Ok((Box::new(stream) as BoxTransport, peer))
        }
    }

    fn connect_tls(
        &self,
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
        socket: Tcp,
    ) -> impl Future<Output = io::Result<BoxTransport>> + Send + 'static {
        jtp_driver::tls::connect(config, name, socket)
    }
}

impl Tls {
    async fn handshake(connection: ServerConnection, socket: Tcp) -> io::Result<Tls> {
        let mut tls = Tls {
            socket: socket.0,
            connection,
            input: Vec::new(),
            start: 0,
            end: 0,
            closing: false,
        };
        poll_fn(|cx| tls.poll(cx, PollFlags::IN, Tls::advance_handshake)).await?;
        Ok(tls)
    }

    /// Performs an operation that does not block. If it is not possible now, registers for `flags`, and for writing if
    /// rustls has output.
    fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        flags: PollFlags,
        mut operation: impl FnMut(&mut Tls) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let socket = Arc::clone(&self.socket);
        let done = attempt(&socket, flags, cx, || operation(self));
        if done.is_pending() && self.connection.wants_write() {
            return wait_for(&socket, PollFlags::OUT, cx);
        }
        done
    }

    fn advance_handshake(&mut self) -> io::Result<()> {
        loop {
            match self.send() {
                Ok(()) if !self.connection.is_handshaking() => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => self.receive()?,
            }
        }
    }

    /// Writes the output of rustls to the socket.
    fn send(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut &*self.socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Passes input of the socket to rustls, about a record at a time.
    fn receive(&mut self) -> io::Result<()> {
        if self.start == self.end {
            self.fill()?;
        }
        let mut input = self.input.get(self.start..self.end).unwrap_or_default();
        let ended = input.is_empty();
        self.start += self.connection.read_tls(&mut input)?;
        let processed = self.connection.process_new_packets();
        // Sends alerts. If that is not possible now, they are sent with the next output.
        let _ = self.send();
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if ended && self.connection.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        self.start = 0;
        self.end = 0;
        self.input.resize(READ_SIZE, 0);
        match (&*self.socket).read(&mut self.input) {
            Ok(count) => {
                self.end = count;
                Ok(())
            }
            Err(error) => {
                self.input = Vec::new();
                Err(error)
            }
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.receive()?,
                read => return read,
            }
        }
    }

    fn write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send()?;
        let count = self.connection.writer().write_vectored(bufs)?;
        match self.send() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    fn close(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.closing, true) {
            self.connection.send_close_notify();
        }
        self.send()?;
        self.socket.shutdown(Shutdown::Write)
    }
}

impl Transport for Tls {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, PollFlags::IN, |tls| tls.read(buf))
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, PollFlags::OUT, |tls| tls.write(bufs))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, PollFlags::OUT, Tls::send)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, PollFlags::OUT, Tls::close)
    }

    fn socket(&self) -> Option<SockRef<'_>> {
        Some(SockRef::from(&*self.socket))
    }
}
