//! TLS over TCP.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::fd::BorrowedFd;
use rustls::Connection;

use super::{Bell, Stream, is_blocked, wait};
use crate::clock::left;

/// How much is read from the socket at once.
const READ: usize = 64 * 1024;

/// A TLS connection over a socket in non-blocking mode. What rustls holds for sending is bounded by its own
/// limit (64 KiB), which is C6's "little".
#[derive(Debug)]
pub(crate) struct Tls {
    socket: TcpStream,
    connection: Connection,
    /// What was read from the socket and not given to rustls; nothing of it is kept while idle.
    input: Vec<u8>,
    start: usize,
    end: usize,
    closing: bool,
}

impl Tls {
    pub(crate) fn new(connection: impl Into<Connection>, socket: TcpStream) -> Tls {
        Tls {
            socket,
            connection: connection.into(),
            input: Vec::new(),
            start: 0,
            end: 0,
            closing: false,
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Makes the handshake; gives up then, or when one of the bells rings. // T4 T6
    pub(crate) fn handshake(&mut self, until: Option<Instant>, bells: &[&Bell]) -> io::Result<()> {
        loop {
            match self.send() {
                Ok(()) if !self.connection.is_handshaking() => return Ok(()),
                Err(error) if !is_blocked(&error) => return Err(error),
                _ => {}
            }
            match self.receive() {
                Ok(()) => continue,
                Err(error) if is_blocked(&error) => {}
                Err(error) => return Err(error),
            }
            if until.is_some_and(|until| left(until).is_zero()) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "timed out"));
            }
            if bells.iter().any(|bell| bell.is_rung()) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            wait(self, true, false, bells, until.map(left))?;
        }
    }

    /// Gives the socket what rustls holds for it.
    fn send(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut self.socket)? == 0 {
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
        match self.socket.read(&mut self.input) {
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
}

impl Read for Tls {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.receive()?,
                read => return read,
            }
        }
    }
}

impl Write for Tls {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send()?;
        let count = self.connection.writer().write_vectored(bufs)?;
        match self.send() {
            Err(error) if !is_blocked(&error) => Err(error),
            _ => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Stream for Tls {
    fn finish(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.closing, true) {
            self.connection.send_close_notify();
        }
        self.send()?;
        self.socket.finish()
    }

    fn interest(&self, read: bool, write: bool) -> (BorrowedFd<'_>, PollFlags) {
        self.socket
            .interest(read, write || self.connection.wants_write())
    }
}
