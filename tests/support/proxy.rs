//! A proxy that forwards a limited number of the server's bytes, so that the client's progress is known, and that can cut
//! connections.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    gate: Arc<Gate>,
}

struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    upstream: SocketAddr,
    /// The number of bytes that may still pass.
    left: u64,
    /// When that number is reached, all connections are cut, and later ones have no limit.
    cuts: bool,
    connections: Vec<Weak<Connection>>,
}

/// Both ends of a connection.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    fn shut_down(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

impl State {
    fn cut(&mut self) {
        for connection in self.connections.drain(..) {
            if let Some(connection) = connection.upgrade() {
                connection.shut_down();
            }
        }
    }
}

impl Proxy {
    pub(crate) fn start(upstream: SocketAddr, allowed: u64) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate {
            state: Mutex::new(State {
                upstream,
                left: allowed,
                cuts: false,
                connections: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let shared = Arc::clone(&gate);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let upstream = shared.state.lock().unwrap().upstream;
                // If the server is gone, the client's connection is closed.
                if let Ok(server) = TcpStream::connect(upstream) {
                    let connection = Arc::new(Connection { client, server });
                    let mut state = shared.state.lock().unwrap();
                    state.connections.retain(|known| known.strong_count() > 0);
                    state.connections.push(Arc::downgrade(&connection));
                    drop(state);
                    relay(connection, &shared);
                }
            }
        });
        Proxy { address, gate }
    }

    /// Whether the limit is reached.
    pub(crate) fn is_spent(&self) -> bool {
        self.gate.state.lock().unwrap().left == 0
    }

    /// Forwards to another server from now on, and without a limit.
    pub(crate) fn open(&self, upstream: SocketAddr) {
        let mut state = self.gate.state.lock().unwrap();
        state.upstream = upstream;
        state.left = u64::MAX;
        state.cuts = false;
        self.gate.changed.notify_all();
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.gate.state.lock().unwrap().cut();
    }

    /// Cuts all connections when this many more bytes have passed.
    pub(crate) fn cut_after(&self, bytes: u64) {
        let mut state = self.gate.state.lock().unwrap();
        state.left = bytes;
        state.cuts = true;
        self.gate.changed.notify_all();
    }
}

fn relay(connection: Arc<Connection>, gate: &Arc<Gate>) {
    let requests = Arc::clone(&connection);
    thread::spawn(move || {
        let _ = std::io::copy(&mut &requests.client, &mut &requests.server);
        let _ = requests.server.shutdown(Shutdown::Write);
    });
    let gate = Arc::clone(gate);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let count = (&connection.server).read(&mut buffer).unwrap_or(0);
            let mut rest = &buffer[..count];
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let mut state = gate.state.lock().unwrap();
                while state.left == 0 {
                    if state.cuts {
                        (state.left, state.cuts) = (u64::MAX, false);
                        return state.cut();
                    }
                    state = gate.changed.wait(state).unwrap();
                }
                let now = usize::try_from(state.left).map_or(rest.len(), |n| n.min(rest.len()));
                state.left -= u64::try_from(now).unwrap();
                // Where a test waits for the limit, the bytes are on their way when it is reached. Elsewhere a client
                // that does not read must not block the others.
                let is_awaited = !state.cuts && state.left < u64::MAX / 2;
                let state = is_awaited.then_some(state);
                let sent = (&connection.client).write_all(&rest[..now]);
                drop(state);
                if sent.is_err() {
                    return connection.shut_down();
                }
                rest = &rest[now..];
            }
        }
        connection.shut_down();
    });
}
