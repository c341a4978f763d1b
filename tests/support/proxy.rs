//! A proxy that forwards a limited number of the server's bytes, so that the client's progress is known.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
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
}

impl Proxy {
    pub(crate) fn start(upstream: SocketAddr, allowed: u64) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate {
            state: Mutex::new(State {
                upstream,
                left: allowed,
            }),
            changed: Condvar::new(),
        });
        let shared = Arc::clone(&gate);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let upstream = shared.state.lock().unwrap().upstream;
                // If the server is gone, the client's connection is closed.
                if let Ok(server) = TcpStream::connect(upstream) {
                    relay(&client, &server, &shared);
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
        self.gate.changed.notify_all();
    }
}

fn relay(client: &TcpStream, server: &TcpStream, gate: &Arc<Gate>) {
    let copy = |stream: &TcpStream| stream.try_clone().unwrap();
    let (mut from_client, mut to_server) = (copy(client), copy(server));
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (copy(server), copy(client));
    let gate = Arc::clone(gate);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let count = from_server.read(&mut buffer).unwrap_or(0);
            let mut rest = &buffer[..count];
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let mut state = gate.state.lock().unwrap();
                while state.left == 0 {
                    state = gate.changed.wait(state).unwrap();
                }
                let now = usize::try_from(state.left).map_or(rest.len(), |n| n.min(rest.len()));
                if to_client.write_all(&rest[..now]).is_err() {
                    return;
                }
                state.left -= u64::try_from(now).unwrap();
                rest = &rest[now..];
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = from_server.shutdown(Shutdown::Both);
    });
}
