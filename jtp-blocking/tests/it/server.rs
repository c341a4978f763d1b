//! What the server offers beside `serve`, and request handlers that block.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use jtp_blocking::runtime::Threads;
use jtp_blocking::store::MemoryStore;
use jtp_blocking::{Client, Request, Server};
use jtp_core::server::CloseReason;

use crate::{Result, RunningServer, store};

#[test]
fn s16_shutdown_ends_serve_and_waits_for_it() -> Result {
    let server = Server::builder(store(3)).build();
    let running = RunningServer::start(server.clone());
    assert_eq!(running.client().build().list()?.len(), 3);
    server.shutdown();
    running.thread.join().unwrap();
    Ok(())
}

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
    thread::sleep(std::time::Duration::from_millis(100));
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
fn t1_a_request_handler_sees_the_server_name_that_the_client_requested() -> Result {
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    let made = rcgen::generate_simple_self_signed(vec!["gallery.example".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server_config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let client_config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();

    let server = Server::builder(store(1))
        .tls(server_config)
        .on_request(|request: Request| async move {
            let tls = request.peer().tls.as_ref().unwrap();
            assert_eq!(tls.server_name.as_deref(), Some("gallery.example"));
            assert!(tls.certificates.is_empty());
            request.accept()
        })
        .build();
    let running = RunningServer::start(server);
    let name = ServerName::try_from("gallery.example")?;
    let mut client = running.client().tls(client_config, name).build();
    assert_eq!(client.list()?.len(), 1);
    client.close();
    running.stop();
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
