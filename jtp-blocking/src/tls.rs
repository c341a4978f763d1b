//! TLS over TCP.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::task::{Context, Poll};

use jtp_driver::{BoxTransport, PeerCertificates, TlsRuntime, Transport};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};

use crate::reactor::{PollFlags, attempt, wait_for};
use crate::runtime::{Tcp, Threads};

/// How much is read from the socket at once.
const READ: usize = 64 * 1024;

/// A TLS connection over a socket in non-blocking mode. What rustls holds for sending is bounded by its own
/// limit (64 KiB), which is C6's "little".
#[derive(Debug)]
pub(crate) struct Tls {
    socket: Arc<TcpStream>,
    connection: Connection,
    /// What was read from the socket and not given to rustls; nothing of it is kept while idle.
    input: Vec<u8>,
    start: usize,
    end: usize,
    closing: bool,
}

impl TlsRuntime for Threads {
    async fn accept_tls(
        config: Arc<rustls::ServerConfig>,
        socket: Tcp,
    ) -> io::Result<(BoxTransport, PeerCertificates)> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let stream = Tls::handshake(connection.into(), socket).await?;
        let certificates = stream.connection.peer_certificates();
        let certificates = certificates.unwrap_or_default().to_vec();
        Ok((Box::new(stream), certificates))
    }

    async fn connect_tls(
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
        socket: Tcp,
    ) -> io::Result<BoxTransport> {
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Box::new(Tls::handshake(connection.into(), socket).await?))
    }
}

impl Tls {
    async fn handshake(connection: Connection, socket: Tcp) -> io::Result<Tls> {
        let mut tls = Tls {
            socket: socket.0,
            connection,
            input: Vec::new(),
            start: 0,
            end: 0,
            closing: false,
        };
        poll_fn(|cx| tls.poll(cx, PollFlags::IN, Tls::shake)).await?;
        Ok(tls)
    }

    /// Does what never waits; what it waits for is what rustls has for the socket, too.
    fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        flags: PollFlags,
        mut work: impl FnMut(&mut Tls) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let socket = Arc::clone(&self.socket);
        let done = attempt(&socket, flags, cx, || work(self));
        if done.is_pending() && self.connection.wants_write() {
            return wait_for(&socket, PollFlags::OUT, cx);
        }
        done
    }

    fn shake(&mut self) -> io::Result<()> {
        loop {
            match self.send() {
                Ok(()) if !self.connection.is_handshaking() => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => self.receive()?,
            }
        }
    }

    /// Gives the socket what rustls holds for it.
    fn send(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut &*self.socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Gives rustls what the socket has for it, a record or so at a time.
    fn receive(&mut self) -> io::Result<()> {
        if self.start == self.end {
            self.refill()?;
        }
        let mut input = self.input.get(self.start..self.end).unwrap_or_default();
        let ended = input.is_empty();
        self.start += self.connection.read_tls(&mut input)?;
        let processed = self.connection.process_new_packets();
        // Alerts and the like: they go along with what comes next if they cannot go now.
        let _ = self.send();
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if ended && self.connection.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn refill(&mut self) -> io::Result<()> {
        self.start = 0;
        self.end = 0;
        self.input.resize(READ, 0);
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
}
