//! A connection over sockets: a proxy in between shapes it, and does to it what a script says.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Socket, Type};

use super::{Pieces, Shape};
use crate::suite::court::Court;
use crate::suite::script::Cut;
use crate::support::peer::await_read;

/// What the system keeps of each socket, so that a response is in the middle when a script says so.
const BUFFER: usize = 64 * 1024;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: RefCell<Option<JoinHandle<()>>>,
}

struct Shared {
    upstream: SocketAddr,
    shape: Shape,
    /// Of each connection not more than this is let through, then it ends.
    cut: Cut,
    court: Arc<Court>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How much the server has been given, and has read.
    given: u64,
    read: u64,
    /// Nothing comes down until the server has read so many bytes.
    held: Option<u64>,
    stalled: bool,
    closed: bool,
    over: bool,
}

/// On loopback, with small buffers.
pub(crate) fn listener() -> TcpListener {
    let socket = socket();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(64).unwrap();
    socket.into()
}

/// A connection to one of our servers. Its own port is no other connection's, also to another server: by that the
/// servers' logs are told apart.
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
    pub(crate) fn start(upstream: SocketAddr, shape: Shape, cut: Cut, court: Arc<Court>) -> Proxy {
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            shape,
            cut,
            court,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let proxy = Arc::clone(&shared);
        let accepting = thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if proxy.state().closed {
                    return;
                }
                // Where no server is, the client finds its connection closed.
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

    /// From now on nobody can connect; connections go on.
    pub(crate) fn close(&self) {
        if let Some(accepting) = self.accepting.borrow_mut().take() {
            self.shared.state().closed = true;
            // Wakes the thread.
            drop(TcpStream::connect(self.address));
            accepting.join().unwrap();
        }
    }

    /// Until the server has read so many bytes more, nothing comes down.
    pub(crate) fn hold(&self, least: u64) {
        let mut state = self.shared.state();
        state.held = Some(state.given + least);
    }

    pub(crate) fn stall(&self, stalled: bool) {
        self.shared.state().stalled = stalled;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.shared.changed.notify_all();
        self.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn relay(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        self.court.begins(server.local_addr().unwrap());
        let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let shared = Arc::clone(self);
        thread::spawn(move || shared.copy_up(from, to));
        let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let shared = Arc::clone(self);
        thread::spawn(move || shared.copy_down(from, to));
    }

    fn copy_up(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut pieces = Pieces::new(self.shape, 1);
        let mut buffer = vec![0; 16 * 1024];
        let mut left = self.cut.up;
        loop {
            let most = pieces.next().min(buffer.len());
            let count = read_within(&mut left, &mut from, &mut buffer[..most]);
            if count == 0 || to.write_all(&buffer[..count]).is_err() {
                break;
            }
            let mut state = self.state();
            state.given += u64::try_from(count).unwrap();
            if state.held.is_some() {
                drop(state);
                await_read(&to);
                state = self.state();
            }
            state.read = state.given;
            drop(state);
            self.changed.notify_all();
        }
        self.state().held = None;
        self.changed.notify_all();
        let _ = to.shutdown(Shutdown::Write);
        discard_beyond(left, &mut from);
    }

    fn copy_down(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut pieces = Pieces::new(self.shape, 2);
        let mut buffer = vec![0; 16 * 1024];
        let mut left = self.cut.down;
        loop {
            let most = pieces.next().min(buffer.len());
            let count = read_within(&mut left, &mut from, &mut buffer[..most]);
            let mut state = self.state();
            while !state.over && (state.stalled || state.held.is_some_and(|at| state.read < at)) {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
            state.held = None;
            drop(state);
            if count == 0 {
                break;
            }
            if to.write_all(&buffer[..count]).is_err() {
                // Whoever has gone takes everything.
                while read(&mut from, &mut buffer) > 0 {}
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
        discard_beyond(left, &mut from);
    }
}

/// No more than may still pass.
fn read_within(left: &mut Option<u64>, from: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let Some(left) = left else {
        return read(from, buffer);
    };
    let most = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
    if most == 0 {
        return 0;
    }
    let count = read(from, &mut buffer[..most]);
    *left -= u64::try_from(count).unwrap();
    count
}

/// Whoever was cut off does not notice.
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
