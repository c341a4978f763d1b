//! A client's TLS over a socket, of which both directions can be used at once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ClientConnection;

use super::tls::localhost;

pub(crate) struct Secure {
    session: Mutex<ClientConnection>,
    /// Who has this sends records, in their order.
    turn: Mutex<()>,
    tcp: TcpStream,
}

impl Secure {
    pub(crate) fn new(tcp: TcpStream, config: Arc<rustls::ClientConfig>) -> Secure {
        Secure {
            session: Mutex::new(ClientConnection::new(config, localhost()).unwrap()),
            turn: Mutex::new(()),
            tcp,
        }
    }

    fn session(&self) -> MutexGuard<'_, ClientConnection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what the session makes of it, and holds nobody up who reads meanwhile.
    fn send(&self, make: impl FnOnce(&mut ClientConnection)) -> io::Result<()> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = Vec::new();
        {
            let mut session = self.session();
            make(&mut session);
            while session.wants_write() {
                session.write_tls(&mut records)?;
            }
        }
        let sent = (&self.tcp).write_all(&records);
        drop(turn);
        sent
    }

    /// Says that nothing more comes, and leaves the socket as it is.
    pub(crate) fn close_notify(&self) -> io::Result<()> {
        self.shake_hands()?;
        self.send(|session| session.send_close_notify())
    }

    fn shake_hands(&self) -> io::Result<()> {
        if !self.session().is_handshaking() {
            return Ok(()); // A reader does not wait for its turn to send.
        }
        while self.session().is_handshaking() {
            self.send(|_| {})?;
            self.receive()?;
        }
        self.send(|_| {})
    }

    fn receive(&self) -> io::Result<()> {
        // Waits without the session, which whoever sends needs.
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
        self.shake_hands()?;
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
        self.shake_hands()?;
        let some = &buf[..buf.len().min(16 * 1024)];
        self.send(|session| session.writer().write_all(some).unwrap())?;
        Ok(some.len())
    }

    /// Nothing is held back; but the handshake may still be to come.
    fn flush(&mut self) -> io::Result<()> {
        self.shake_hands()
    }
}
