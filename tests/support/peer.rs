//! A raw peer: sends bytes and expects bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use socket2::{Domain, Socket, Type};

use super::TEST_TIMEOUT;
use super::secure::Secure;

/// One end of a connection, without the project's code.
pub(crate) struct Peer {
    tcp: TcpStream,
    /// TLS over the same socket.
    tls: Option<Secure>,
}

/// A packet as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) flags: u8,
    pub(crate) id: u64,
    pub(crate) data: Vec<u8>,
}

/// Reads from a peer.
struct PeerReader<'a>(&'a Peer);

impl Read for PeerReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_some(buf)
    }
}

impl Peer {
    /// Connects with a small receive buffer, so that unread bytes stay with the server.
    pub(crate) fn connect(address: SocketAddr) -> Peer {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(128 * 1024).unwrap();
        socket.connect(&address.into()).unwrap();
        Peer::on(socket.into())
    }

    /// Uses an existing connection.
    pub(crate) fn on(tcp: TcpStream) -> Peer {
        tcp.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        tcp.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        tcp.set_nodelay(true).unwrap();
        Peer { tcp, tls: None }
    }

    /// Continues with TLS, as the client.
    pub(crate) fn tls(self, config: Arc<rustls::ClientConfig>) -> Peer {
        let tls = Secure::new(self.tcp.try_clone().unwrap(), config);
        Peer {
            tls: Some(tls),
            ..self
        }
    }

    fn write_all(&self, bytes: &[u8]) -> std::io::Result<()> {
        match &self.tls {
            Some(tls) => {
                let mut tls = tls;
                tls.write_all(bytes)?;
                tls.flush()
            }
            None => (&self.tcp).write_all(bytes),
        }
    }

    fn read_some(&self, buf: &mut [u8]) -> std::io::Result<usize> {
        match &self.tls {
            Some(tls) => (&mut &*tls).read(buf),
            None => (&self.tcp).read(buf),
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the other end reads");
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.write_all(bytes.as_ref())
    }

    /// Sends and reads at the same time: both directions may be full.
    #[track_caller]
    pub(crate) fn send_and_read(&mut self, bytes: &[u8], count: usize) -> Vec<u8> {
        let this = &*self;
        thread::scope(|scope| {
            scope.spawn(|| this.write_all(bytes).expect("the other end reads"));
            this.read_up_to(count)
        })
    }

    /// Sends, and waits until the program at the other end has read it (on Linux, from `/proc/net/tcp`). This end reads
    /// nothing meanwhile, so the other end's progress is known even on a busy machine.
    #[track_caller]
    pub(crate) fn send_and_be_read(&mut self, bytes: impl AsRef<[u8]>) {
        self.send(bytes);
        self.await_read();
    }

    /// Waits until the program at the other end has read what was sent.
    #[track_caller]
    pub(crate) fn await_read(&self) {
        await_read(&self.tcp);
    }

    /// Closes this direction of the socket without close_notify.
    pub(crate) fn half_close(&mut self) {
        self.tcp.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes this direction: by close_notify with TLS (the socket stays open), by a half-close without.
    pub(crate) fn finish(&mut self) {
        match &self.tls {
            Some(tls) => tls.close_notify().unwrap(),
            None => self.half_close(),
        }
    }

    #[track_caller]
    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        PeerReader(self)
            .read_exact(&mut bytes)
            .expect("enough bytes arrive");
        bytes
    }

    /// Reads `count` bytes, or fewer at the end of the stream.
    #[track_caller]
    pub(crate) fn read_up_to(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut got = 0;
        while got < count {
            match self.read_some(&mut bytes[got..]) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("after {got} bytes: {error}"),
            }
        }
        bytes.truncate(got);
        bytes
    }

    /// Reads `count` bytes; none if the connection ends or fails before.
    pub(crate) fn read_up_to_or_gone(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        match PeerReader(self).read_exact(&mut bytes) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let got = self.read_up_to(expected.len());
        if got != expected {
            let same = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
            panic!(
                "expected {} bytes, received {}; from byte {same} on expected {:02x?}, received {:02x?}",
                expected.len(),
                got.len(),
                &expected[same..expected.len().min(same + 24)],
                &got[same..got.len().min(same + 24)],
            );
        }
    }

    /// Reads to the end of the stream, which must not be a reset. // S11
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = PeerReader(self).read_to_end(&mut bytes) {
            panic!("no orderly end after {} bytes: {error}", bytes.len());
        }
        bytes
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let rest = self.read_to_end();
        let shown = &rest[..rest.len().min(40)];
        assert!(rest.is_empty(), "{} more bytes: {shown:02x?}", rest.len());
    }

    /// Expects a complete `JTPE` with this code, then the end; returns the message.
    #[track_caller]
    pub(crate) fn expect_error(&mut self, code: u8) -> String {
        self.expect(b"JTPE");
        self.expect([code]);
        let length = self.read(2);
        let message = self.read(usize::from(u16::from_be_bytes([length[0], length[1]])));
        self.expect_end();
        String::from_utf8(message).unwrap()
    }

    /// Reads a byte if one is available; plain TCP only.
    pub(crate) fn look(&mut self) -> Option<u8> {
        self.tcp.set_nonblocking(true).unwrap();
        let mut byte = [0];
        let read = self.read_some(&mut byte);
        self.tcp.set_nonblocking(false).unwrap();
        match read {
            Ok(1) => Some(byte[0]),
            _ => None,
        }
    }

    #[track_caller]
    pub(crate) fn varint(&mut self) -> u32 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.read(1)[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }

    #[track_caller]
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.read(8).try_into().unwrap())
    }

    /// Reads a packet whose flags byte has been read.
    #[track_caller]
    pub(crate) fn packet_after(&mut self, flags: u8) -> Packet {
        let length = usize::try_from(self.varint()).unwrap();
        let id = self.u64();
        let data = self.read(length);
        Packet { flags, id, data }
    }

    #[track_caller]
    pub(crate) fn packet(&mut self) -> Packet {
        let flags = self.read(1)[0];
        self.packet_after(flags)
    }

    /// Reads an entry: flags, ID, name, size.
    #[track_caller]
    pub(crate) fn entry(&mut self) -> (u8, u64, String, u32) {
        let id = self.u64();
        let flags = self.read(1)[0];
        let length = self.read(2);
        let name = self.read(usize::from(u16::from_be_bytes([length[0], length[1]])));
        (flags, id, String::from_utf8(name).unwrap(), self.varint())
    }
}

/// Connects from the loopback address 127.0.0.`last`.
pub(crate) fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from(([127, 0, 0, last], 0));
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// Waits until the program at the other end has read everything that was sent (on Linux, from `/proc/net/tcp`).
#[track_caller]
fn await_read(tcp: &TcpStream) {
    let hex = |address: SocketAddr| match address {
        SocketAddr::V4(address) => {
            let ip = u32::from_ne_bytes(address.ip().octets());
            format!("{ip:08X}:{:04X}", address.port())
        }
        SocketAddr::V6(_) => panic!("tests use IPv4"),
    };
    let (Ok(there), Ok(here)) = (tcp.peer_addr(), tcp.local_addr()) else {
        return; // The other end is gone.
    };
    let (there, here) = (hex(there), hex(here));
    super::process::wait_until("the other end reads", || {
        let Ok(sockets) = std::fs::read_to_string("/proc/net/tcp") else {
            return true;
        };
        // A line: "  0: LOCAL REMOTE STATE SENT:RECEIVED ...", with the bytes that wait in each direction.
        let queues = |local: &str, remote: &str| {
            let (_, rest) = sockets.split_once(&format!("{local} {remote} "))?;
            rest.split(' ').nth(1)?.split_once(':')
        };
        // What was sent has arrived there, and what has arrived there was read.
        let has_arrived = queues(&here, &there).is_none_or(|(sent, _)| sent == "00000000");
        let is_read = queues(&there, &here).is_none_or(|(_, received)| received == "00000000");
        has_arrived && is_read
    });
}
