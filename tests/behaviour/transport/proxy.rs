//! A proxy between real sockets that applies a shape and the script's actions.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Socket, Type};

use super::{PieceSizes, Shape};
use crate::suite::script::Cut;
use crate::suite::stub::ServerStub;

/// The size of the sockets' buffers in bytes: small, so that a large response is still being sent when a script
/// interrupts it.
const BUFFER: usize = 64 * 1024;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: RefCell<Option<JoinHandle<()>>>,
}

struct Shared {
    upstream: SocketAddr,
    shape: Shape,
    /// The number of bytes after which each direction of a connection ends.
    cut: Cut,
    stub: Arc<ServerStub>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Nothing is delivered to the client.
    stalled: bool,
    closed: bool,
    finished: bool,
}

/// Listens on loopback, with small buffers.
pub(crate) fn listener() -> TcpListener {
    let socket = socket();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(64).unwrap();
    socket.into()
}

/// Connects to a server of the suite. The local port is bound explicitly, so that it is unique across all servers:
/// logs are assigned by it.
pub(crate) fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

fn socket() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_send_buffer_size(BUFFER).unwrap();
    socket.set_recv_buffer_size(BUFFER).unwrap();
    socket
}

impl Proxy {
    pub(crate) fn start(
        upstream: SocketAddr,
        shape: Shape,
        cut: Cut,
        stub: Arc<ServerStub>,
    ) -> Proxy {
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            shape,
            cut,
            stub,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let proxy = Arc::clone(&shared);
        let accepting = thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if proxy.state().closed {
                    return;
                }
                // If the server has closed, the client's connection is closed.
                if let Ok(server) = connect(proxy.upstream) {
                    proxy.relay(&client, &server);
                }
            }
        });
        Proxy {
            address,
            shared,
            accepting: RefCell::new(Some(accepting)),
        }
    }

    /// Stops accepting; existing connections continue.
    pub(crate) fn close(&self) {
        if let Some(accepting) = self.accepting.borrow_mut().take() {
            self.shared.state().closed = true;
            // Wakes the thread.
            drop(TcpStream::connect(self.address));
            accepting.join().unwrap();
        }
    }

    /// Delivers nothing to the client until it is called again, or the client closes.
    pub(crate) fn stall(&self, stalled: bool) {
        self.shared.stall(stalled);
    }

    /// Lets the script's next bytes to the client pass once this is called.
    pub(crate) fn resume(&self) -> impl FnOnce() + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.stall(false)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().finished = true;
        self.shared.changed.notify_all();
        self.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stall(&self, stalled: bool) {
        self.state().stalled = stalled;
        self.changed.notify_all();
    }

    fn relay(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        self.stub.record_open(server.local_addr().unwrap());
        let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let shared = Arc::clone(self);
        thread::spawn(move || shared.copy_up(from, to));
        let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let shared = Arc::clone(self);
        thread::spawn(move || shared.copy_down(from, to));
    }

    fn copy_up(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut pieces = PieceSizes::new(self.shape, 1);
        let mut buffer = vec![0; 16 * 1024];
        let mut left = self.cut.up;
        loop {
            let max = pieces.next().min(buffer.len());
            let count = read_within(&mut left, &mut from, &mut buffer[..max]);
            if count == 0 || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        self.stall(false);
        let _ = to.shutdown(Shutdown::Write);
        discard_beyond(left, &mut from);
    }

    fn copy_down(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut pieces = PieceSizes::new(self.shape, 2);
        let mut buffer = vec![0; 16 * 1024];
        let mut left = self.cut.down;
        loop {
            let max = pieces.next().min(buffer.len());
            let count = read_within(&mut left, &mut from, &mut buffer[..max]);
            let mut state = self.state();
            while !state.finished && state.stalled {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            if count == 0 {
                break;
            }
            if to.write_all(&buffer[..count]).is_err() {
                // The client has closed: discard the rest.
                while read(&mut from, &mut buffer) > 0 {}
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
        discard_beyond(left, &mut from);
    }
}

/// Reads, but not more than `left` bytes.
fn read_within(left: &mut Option<u64>, from: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let Some(left) = left else {
        return read(from, buffer);
    };
    let max = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
    if max == 0 {
        return 0;
    }
    let count = read(from, &mut buffer[..max]);
    *left -= u64::try_from(count).unwrap();
    count
}

/// Discards what a side sends after its direction was cut off.
fn discard_beyond(left: Option<u64>, from: &mut TcpStream) {
    while left == Some(0) && read(from, &mut [0; 4096]) > 0 {}
}

fn read(from: &mut TcpStream, buffer: &mut [u8]) -> usize {
    loop {
        match from.read(buffer) {
            Ok(count) => return count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return 0,
        }
    }
}
