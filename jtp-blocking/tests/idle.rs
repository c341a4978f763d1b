//! Idle connections use no CPU, and watchers are notified at once. A separate test program, so that no other test
//! runs at the same time.
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jtp_blocking::{Client, Server, Shutdown};
use jtp_store::MemoryStore;
use rustix::time::{ClockId, clock_gettime};

/// The number of connections; `JTP_IDLE=1000 cargo test -p jtp-blocking --test idle -- --nocapture` measures more.
fn connections() -> usize {
    let variable = std::env::var("JTP_IDLE");
    variable.map_or(200, |count| count.parse().unwrap())
}

fn cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

fn assert_idle(connections: usize) {
    let (start, before) = (Instant::now(), cpu());
    thread::sleep(Duration::from_secs(2));
    let (passed, used) = (start.elapsed(), cpu() - before);
    println!("{connections} connections: {used:?} of CPU in {passed:?}");
    assert!(used < passed / 100, "{used:?} in {passed:?}");
}

#[test]
fn idle_connections_use_under_one_percent_cpu_and_events_take_under_100_ms() {
    let store = Arc::new(MemoryStore::new());
    store.insert("a.png", b"pixels".as_slice()).unwrap();
    let server = Server::builder(Arc::clone(&store)).build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Shutdown::new().unwrap();
    let stopped = stop.clone();
    let serving = thread::spawn(move || server.serve(listener, &stopped));

    // Three in four connections are idle after a request, one in four watches.
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
    thread::sleep(Duration::from_millis(200)); // Until the last connection is idle.

    assert_idle(open.len());

    let mut client = Client::builder(address.to_string()).build();
    let (_, mut watch) = client.list_and_watch().unwrap();
    let mut delays: Vec<Duration> = (0..20)
        .map(|n| {
            let start = Instant::now();
            let id = store.insert(&format!("{n}.png"), vec![n; 10]).unwrap();
            assert_eq!(watch.next().unwrap().id, id);
            start.elapsed()
        })
        .collect();
    delays.sort();
    // The median, because the machine may be busy. A server that polls at intervals fails this too.
    println!("events: median {:?}, maximum {:?}", delays[10], delays[19]);
    assert!(delays[10] < Duration::from_millis(100), "{delays:?}"); // N1

    thread::sleep(Duration::from_millis(200)); // Until all watchers have been notified.
    assert_idle(open.len() + 1); // Watchers that have sent events are idle again.

    drop(watch);
    drop((client, open));
    stop.begin();
    serving.join().unwrap().unwrap();
}
