//! Connections at rest cost no CPU, and yet hear of news at once. A test program of its own, so that nothing
//! else runs beside it.
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jtp_blocking::{Client, Server, Shutdown};
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

fn rests(connections: usize) {
    let (begun, before) = (Instant::now(), cpu());
    thread::sleep(Duration::from_secs(2));
    let (passed, used) = (begun.elapsed(), cpu() - before);
    println!("{connections} connections: {used:?} of CPU in {passed:?}");
    assert!(used < passed / 100, "{used:?} in {passed:?}");
}

#[test]
fn connections_at_rest_take_under_one_percent_of_a_core_and_news_under_100_ms() {
    let store = Arc::new(MemoryStore::new());
    store.insert("a.png", b"pixels".as_slice()).unwrap();
    let server = Server::builder(Arc::clone(&store)).build();
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

    rests(open.len());

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
    // The median, since the machine may be busy: a server that only looks now and then fails there too.
    println!(
        "news: {:?} in the median, {:?} at the latest",
        delays[10], delays[19]
    );
    assert!(delays[10] < Duration::from_millis(100), "{delays:?}"); // N1

    thread::sleep(Duration::from_millis(200)); // For the others to have sent their news.
    rests(open.len() + 1); // Also those that have told news.

    drop(watch);
    drop((client, open));
    stop.begin();
    serving.join().unwrap().unwrap();
}
