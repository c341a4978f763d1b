//! A TLS client stream whose two directions can be used at the same time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ClientConnection;

use super::tls::localhost;

pub(crate) struct Secure {
    session: Mutex<ClientConnection>,
    /// Held during the handshake. Two threads in `receive` would deadlock: one reads all bytes, the other blocks with the
    /// session locked.
    handshake: Mutex<()>,
    /// Held while sending, to keep records in order.
    send_order: Mutex<()>,
    tcp: TcpStream,
}

impl Secure {
    pub(crate) fn new(tcp: TcpStream, config: Arc<rustls::ClientConfig>) -> Secure {
        Secure {
            session: Mutex::new(ClientConnection::new(config, localhost()).unwrap()),
            handshake: Mutex::new(()),
            send_order: Mutex::new(()),
            tcp,
        }
    }

    fn session(&self) -> MutexGuard<'_, ClientConnection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the records that `make` produces, without blocking a concurrent reader.
    fn send(&self, make: impl FnOnce(&mut ClientConnection)) -> io::Result<()> {
        let guard = self
            .send_order
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut records = Vec::new();
        {
            let mut session = self.session();
            make(&mut session);
            while session.wants_write() {
                session.write_tls(&mut records)?;
            }
        }
        let sent = (&self.tcp).write_all(&records);
        drop(guard);
        sent
    }

    /// Sends close_notify and leaves the socket open.
    pub(crate) fn close_notify(&self) -> io::Result<()> {
        self.complete_handshake()?;
        self.send(|session| session.send_close_notify())
    }

    fn complete_handshake(&self) -> io::Result<()> {
        if !self.session().is_handshaking() {
            return Ok(()); // A reader does not wait for the send lock.
        }
        let _guard = self
            .handshake
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !self.session().is_handshaking() {
            return Ok(()); // The other direction has completed the handshake.
        }
        while self.session().is_handshaking() {
            self.send(|_| {})?;
            self.receive()?;
        }
        self.send(|_| {})
    }

    fn receive(&self) -> io::Result<()> {
        // Waits without the session lock, which a sender needs.
        self.tcp.peek(&mut [0])?;
        let mut session = self.session();
        session.read_tls(&mut &self.tcp)?;
        match session.process_new_packets() {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::new(ErrorKind::InvalidData, error)),
        }
    }
}

impl Read for &Secure {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.complete_handshake()?;
        loop {
            match self.session().reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.receive()?;
        }
    }
}

impl Write for &Secure {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.complete_handshake()?;
        let some = &buf[..buf.len().min(16 * 1024)];
        self.send(|session| session.writer().write_all(some).unwrap())?;
        Ok(some.len())
    }

    /// Nothing is buffered, but the handshake may be incomplete.
    fn flush(&mut self) -> io::Result<()> {
        self.complete_handshake()
    }
}
