//! Connections at rest cost no CPU. A test program of its own, so that nothing else runs beside it.
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jtp_blocking::{Server, Shutdown};
use jtp_store::MemoryStore;
use rustix::time::{ClockId, clock_gettime};

/// `JTP_IDLE=1000 cargo test -p jtp-blocking --test idle -- --nocapture` measures more of them.
fn connections() -> usize {
    let wanted = std::env::var("JTP_IDLE");
    wanted.map_or(200, |wanted| wanted.parse().unwrap())
}

fn cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

#[test]
fn connections_at_rest_take_under_one_percent_of_a_core() {
    let store = Arc::new(MemoryStore::new());
    store.insert("a.png", b"pixels".as_slice()).unwrap();
    let server = Server::builder(store).build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Shutdown::new().unwrap();
    let stopped = stop.clone();
    let serving = thread::spawn(move || server.serve(listener, &stopped));

    // Three in four have had a request answered and are idle, one in four watches.
    let open: Vec<TcpStream> = (0..connections())
        .map(|n| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&[1, 1]).unwrap();
            if n % 4 == 0 {
                stream.write_all(&[4, 0]).unwrap();
            }
            let mut header = [0; 4];
            stream.read_exact(&mut header).unwrap();
            assert_eq!(&header, b"JTPL");
            stream
        })
        .collect();
    thread::sleep(Duration::from_millis(200)); // For the last one to come to rest.

    let (begun, before) = (Instant::now(), cpu());
    thread::sleep(Duration::from_secs(2));
    let (passed, used) = (begun.elapsed(), cpu() - before);
    println!("{} connections: {used:?} of CPU in {passed:?}", open.len());
    assert!(used < passed / 100, "{used:?} in {passed:?}");

    drop(open);
    stop.begin();
    serving.join().unwrap().unwrap();
}
