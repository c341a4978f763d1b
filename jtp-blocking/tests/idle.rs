//! Idle connections use no CPU, two descriptors each, and notify of new images at once. This is a test program of its
//! own, so that nothing else runs in its process.
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jtp_blocking::store::MemoryStore;
use jtp_blocking::{Client, Server, ShutdownSignal};
use rustix::time::{ClockId, clock_gettime};

/// `JTP_IDLE=1000 cargo test -p jtp-blocking --test idle -- --nocapture` measures 1,000 connections.
fn connections() -> usize {
    let connections = std::env::var("JTP_IDLE");
    connections.map_or(200, |connections| connections.parse().unwrap())
}

fn cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

/// Fails if the process uses 1 % of a core or more.
fn measure_cpu(connections: usize) {
    let (begun, before) = (Instant::now(), cpu());
    thread::sleep(Duration::from_secs(2));
    let (passed, used) = (begun.elapsed(), cpu() - before);
    println!("{connections} connections: {used:?} of CPU in {passed:?}");
    assert!(used < passed / 100, "{used:?} in {passed:?}");
}

/// The open descriptors of this process.
#[cfg(target_os = "linux")]
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The same once it has not changed for half a second: connections that were just opened or closed are counted.
#[cfg(target_os = "linux")]
fn settled_descriptors() -> usize {
    let (mut last, mut unchanged) = (descriptors(), 0);
    while unchanged < 20 {
        thread::sleep(Duration::from_millis(25));
        let now = descriptors();
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
    }
    last
}

/// The resident memory of this process in KiB.
#[cfg(target_os = "linux")]
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

#[test]
fn idle_connections_use_under_one_percent_of_a_core_and_notify_within_100_ms() {
    let store = Arc::new(MemoryStore::new());
    store.insert("a.png", b"pixels".as_slice()).unwrap();
    let server = Server::builder(Arc::clone(&store)).build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = ShutdownSignal::new();
    let serving = thread::spawn({
        let shutdown = shutdown.clone();
        move || server.serve(listener, &shutdown)
    });

    // A request on each connection is answered; then one in four watches, and three in four are idle.
    let connect = |n: usize| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[1, 1]).unwrap();
        if n % 4 == 0 {
            stream.write_all(&[4, 0]).unwrap();
        }
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        assert_eq!(&header, b"JTPL");
        stream
    };
    drop(connect(0)); // What the first connection of a process opens is not counted.
    #[cfg(target_os = "linux")]
    let before = (settled_descriptors(), memory());
    let open: Vec<TcpStream> = (0..connections()).map(connect).collect();
    #[cfg(target_os = "linux")]
    {
        // The socket and the thread's waker; and the client's socket, which is in this process too.
        let opened = settled_descriptors() - before.0;
        let used = (memory() - before.1) / open.len();
        println!(
            "{} connections: {opened} descriptors, {used} KiB each",
            open.len()
        );
        assert_eq!(opened, 3 * open.len());
    }
    measure_cpu(open.len());

    let mut client = Client::builder(address.to_string()).build();
    let (_, mut watch) = client.list_and_watch().unwrap();
    let mut delays: Vec<Duration> = (0..20)
        .map(|n| {
            let begun = Instant::now();
            let id = store.insert(&format!("{n}.png"), vec![n; 10]).unwrap();
            assert_eq!(watch.next().unwrap().id, id);
            begun.elapsed()
        })
        .collect();
    delays.sort();
    println!(
        "notifications: median {:?}, slowest {:?}",
        delays[10], delays[19]
    );
    // The median, since the machine may be busy: a server that polls at intervals fails there too.
    assert!(delays[10] < Duration::from_millis(100), "{delays:?}"); // N1

    thread::sleep(Duration::from_millis(200)); // The other watchers are notified too.
    measure_cpu(open.len() + 1);

    drop(watch);
    drop((client, open));
    shutdown.begin();
    serving.join().unwrap().unwrap();
}
