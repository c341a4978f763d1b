//! What is the blocking adapter's own: its threads, cancelled clients, and handlers that block. What all adapters do alike
//! is in the behaviour suite of `tests/`.

mod cancel;
mod client;
mod server;

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use jtp_blocking::store::MemoryStore;
use jtp_blocking::{Client, ClientBuilder, Server, ShutdownSignal};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn store(count: u32) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    for n in 0..count {
        let bytes: Vec<u8> = n.to_be_bytes().repeat(1 + n as usize * 10);
        store.insert(&format!("{n:04}.png"), bytes).unwrap();
    }
    Arc::new(store)
}

struct RunningServer {
    address: String,
    stop: ShutdownSignal,
    thread: JoinHandle<()>,
}

impl RunningServer {
    fn start(server: Server) -> RunningServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = ShutdownSignal::new();
        let stopped = stop.clone();
        let thread = thread::spawn(move || server.serve(listener, &stopped).unwrap());
        RunningServer {
            address,
            stop,
            thread,
        }
    }

    fn client(&self) -> ClientBuilder {
        Client::builder(&self.address)
    }

    fn stop(self) {
        self.stop.begin();
        self.thread.join().unwrap();
    }
}
