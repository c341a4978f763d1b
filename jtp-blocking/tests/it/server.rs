//! What the server offers beside `serve`, request handlers that block, and many watchers.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use jtp_blocking::runtime::Threads;
use jtp_blocking::store::MemoryStore;
use jtp_blocking::{Client, Request, Server};
use jtp_core::server::CloseReason;

use crate::{Result, RunningServer, store};

#[test]
fn s16_shutdown_lets_serve_finish_a_response_under_way() -> Result {
    const LENGTH: usize = 32 << 20; // More than sockets hold.
    let store = MemoryStore::new();
    store.insert("large.png", vec![1; LENGTH])?;
    let server = Server::builder(Arc::new(store)).build();
    let running = RunningServer::start(server.clone());
    let mut client = running.client().build();
    let mut images = client.list_and_get();
    let mut image = images.next()?.ok_or("no image")?;
    assert!(image.chunk()?.is_some());
    let ending = thread::spawn(move || server.shutdown());
    thread::sleep(Duration::from_millis(100));
    assert!(!ending.is_finished() && !running.thread.is_finished());
    while image.chunk()?.is_some() {}
    assert!(images.next()?.is_none());
    client.close();
    ending.join().unwrap();
    running.thread.join().unwrap();
    Ok(())
}

#[test]
fn s16_serve_tcp_serves_an_accepted_socket_until_shutdown() -> Result {
    let threads = Threads::default().with_stack_size(512 * 1024);
    let server = Server::builder_on(threads, store(3))
        .max_connections(1)
        .build();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = Client::builder(listener.local_addr()?.to_string()).build();
    let serving = thread::spawn({
        let server = server.clone();
        move || {
            let (stream, address) = listener.accept()?;
            server.serve_tcp(stream, address)
        }
    });
    assert_eq!(client.list()?.len(), 3);
    assert_eq!(server.counters().connections_open, 1);
    server.shutdown();
    assert_eq!(serving.join().unwrap()?, Some(CloseReason::Shutdown));
    assert_eq!(server.counters().connections_open, 0);
    Ok(())
}

#[test]
fn a_request_handler_may_use_a_client() -> Result {
    let upstream = RunningServer::start(Server::builder(store(2)).build());
    let client = Mutex::new(upstream.client().build());
    let client = Arc::new(client);
    let server = Server::builder(store(1))
        .on_request(move |request: Request| {
            let client = Arc::clone(&client);
            async move {
                let listed = client.lock().unwrap().list();
                assert_eq!(listed.unwrap().len(), 2);
                request.accept_with(store(7))
            }
        })
        .build();
    let running = RunningServer::start(server);
    let mut client = running.client().build();
    for _ in 0..3 {
        assert_eq!(client.list()?.len(), 7);
    }
    running.stop();
    upstream.stop();
    Ok(())
}

#[test]
fn a_server_serves_again_after_a_shutdown() -> Result {
    let server = Server::builder(store(3)).build();
    for _ in 0..2 {
        let running = RunningServer::start(server.clone());
        assert_eq!(running.client().build().list()?.len(), 3);
        running.stop();
    }
    Ok(())
}

#[test]
fn n1_many_watchers_are_notified_of_each_change_once() -> Result {
    let store = store(1);
    let running = RunningServer::start(Server::builder(Arc::clone(&store)).build());
    let mut clients: Vec<Client> = (0..20).map(|_| running.client().build()).collect();
    let mut watches = Vec::new();
    for client in &mut clients {
        watches.push(client.list_and_watch()?.1);
    }
    for n in 0..20 {
        let id = store.insert(&format!("new{n}.gif"), vec![n; 100])?;
        for watch in &mut watches {
            assert_eq!(watch.next()?.id, id);
        }
    }
    let no_event = watches[0].next_timeout(Duration::from_millis(1))?;
    assert_eq!(no_event, None);
    drop(watches);
    drop(clients);
    running.stop();
    Ok(())
}
