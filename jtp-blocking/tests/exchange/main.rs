//! Client and server over real sockets, plain and TLS, and over streams in memory.

mod memory;
mod pressure;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jtp_blocking::runtime::block_on;
use jtp_blocking::server::PlainPolicy;
use jtp_blocking::store::{ImageStore, MemoryStore};
use jtp_blocking::{Client, ClientBuilder, Close, Error, ImageError, Peer, Request};
use jtp_blocking::{Server, ServerBuilder, ShutdownSignal, Threads};
use jtp_core::client::{ClientConfig, ClientError, HaveSet};
use jtp_core::server::CloseReason;
use jtp_core::wire::response::ErrorCode;
use jtp_core::{FileType, ImageId};
use memory::{StreamEnd, duplex};
use rustls::pki_types::ServerName;

/// The timeout under test. Tests assert its effect, never the duration.
const SHORT: Option<Duration> = Some(Duration::from_millis(50));

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

fn collect(images: &mut jtp_blocking::Images<'_>) -> Result<Vec<ImageId>> {
    let mut ids = Vec::new();
    while let Some(image) = images.next()? {
        let id = image.image().id;
        let bytes = image.bytes(1 << 30)?;
        assert_eq!(ImageId::of(&bytes), id);
        ids.push(id);
    }
    Ok(ids)
}

#[test]
fn entries_are_returned_one_at_a_time_and_followed_by_a_watch() -> Result {
    let store = store(3);
    let running = RunningServer::start(Server::builder(Arc::clone(&store)).build());
    let mut client = running.client().build();
    let mut entries = client.entries();
    let mut names = Vec::new();
    while let Some(entry) = entries.next()? {
        names.push(entry.name);
    }
    assert_eq!(names, ["0000.png", "0001.png", "0002.png"]);
    assert_eq!((entries.announced(), entries.received()), (Some(3), 3));
    let mut entries = client.entries_and_watch();
    while entries.next()?.is_some() {}
    let mut watch = entries.into_watch()?;
    store.insert("new.png", b"new".as_slice())?;
    assert_eq!(watch.next()?.name, "new.png");
    client.cancel_handle().cancel();
    let mut entries = client.entries();
    assert!(matches!(entries.next(), Err(Error::Cancelled)));
    drop(client);
    running.stop();
    Ok(())
}

#[test]
fn async_client_of_the_driver_runs_on_a_thread() -> Result {
    let running = RunningServer::start(Server::builder(store(20)).build());
    let client: jtp_driver::Client<Threads> = running.client().build_async();
    // It can move to another thread between requests.
    let fetched = thread::spawn(move || {
        let mut client = client;
        block_on(async {
            assert_eq!(client.list().await?.len(), 20);
            let mut fetched = 0;
            let mut images = client.list_and_get();
            while let Some(image) = images.next().await? {
                image.bytes(1 << 20).await.unwrap();
                fetched += 1;
            }
            client.close().await;
            Ok::<_, Error>(fetched)
        })
    });
    assert_eq!(fetched.join().unwrap()?, 20);
    running.stop();
    Ok(())
}

#[test]
fn every_request_over_one_connection() -> Result {
    let store = store(300);
    let catalog = store.catalog().snapshot();
    let all: Vec<ImageId> = catalog.entries().map(|entry| entry.id).collect();
    let running = RunningServer::start(Server::builder(store).build());
    let mut client = running.client().build();

    let listed = client.list()?;
    assert_eq!(listed.iter().map(|entry| entry.id).collect::<Vec<_>>(), all);
    assert_eq!(listed[7].name, "0007.png");

    assert_eq!(collect(&mut client.list_and_get())?, all);

    let have = HaveSet::try_from(all[..200].to_vec())?;
    assert_eq!(collect(&mut client.batch(have))?, all[200..]);

    let mut images = client.get([all[3], ImageId(1), all[1]]);
    assert_eq!(collect(&mut images)?, [all[3], all[1]]);
    assert_eq!(images.absent(), [ImageId(1)]);

    // More IDs than one request can name.
    assert_eq!(collect(&mut client.get(all.clone()))?, all);
    drop(client);
    running.stop();
    Ok(())
}

#[test]
fn c2_connection_works_after_a_cancel() -> Result {
    let store = MemoryStore::new();
    for n in 0..50u8 {
        store.insert(&format!("{n}.png"), vec![n; 1 << 20])?;
    }
    let running = RunningServer::start(Server::builder(Arc::new(store)).build());
    for pipeline in [false, true] {
        let config = ClientConfig::new().with_pipeline(pipeline);
        let mut client = running.client().config(config).build();
        let mut images = client.list_and_get();
        let mut first = images.next()?.unwrap();
        assert!(!first.chunk()?.unwrap().is_empty());
        images.cancel()?;
        assert_eq!(client.list()?.len(), 50);
    }
    running.stop();
    Ok(())
}

#[test]
fn n1_n3_watch_yields_new_images_and_ends_by_cancel() -> Result {
    let store = store(2);
    let running = RunningServer::start(Server::builder(Arc::clone(&store)).build());
    let config = ClientConfig::new().with_pipeline(true);
    let mut client = running.client().config(config).build();
    let (listed, mut watch) = client.list_and_watch()?;
    assert_eq!(listed.len(), 2);
    let id = store.insert("new.gif", b"GIF89a".as_slice())?;
    let event = watch.next()?;
    assert_eq!((event.id, &*event.name), (id, "new.gif"));
    assert_eq!(event.flags.file_type(), FileType::Gif);
    watch.cancel()?;
    assert_eq!(client.list()?.len(), 3);
    drop(client);
    running.stop();
    Ok(())
}

#[test]
fn s16_shutdown_ends_idle_connections_and_watches() -> Result {
    let running = RunningServer::start(Server::builder(store(2)).build());
    let mut idle = running.client().build();
    assert_eq!(idle.list()?.len(), 2);
    let mut watching = running.client().retries(0).build();
    let (_, mut watch) = watching.list_and_watch()?;
    running.stop();
    let ended = watch.next();
    assert!(
        matches!(ended, Err(Error::Protocol(ClientError::EarlyEof))),
        "{ended:?}"
    );
    Ok(())
}

#[test]
fn request_handler_sees_the_peer_and_refuses() -> Result {
    let server = Server::builder(store(1))
        .on_request(|request: Request| async move {
            assert!(request.peer().address.unwrap().ip().is_loopback());
            match request.kind().name() {
                "LIST" => request.accept(),
                _ => request.refuse(ErrorCode::UnsupportedFeature, "only LIST"),
            }
        })
        .build();
    let running = RunningServer::start(server);
    let mut client = running.client().build();
    client.list()?;
    let refused = collect(&mut client.list_and_get()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the server reports UnsupportedFeature: only LIST"
    );
    drop(client);
    running.stop();
    Ok(())
}

#[test]
fn connections_over_the_limit_are_closed_at_accept() -> Result {
    for server in [
        Server::builder(store(1)).max_connections(1).build(),
        Server::builder(store(1)).max_connections_per_ip(1).build(),
    ] {
        let running = RunningServer::start(server);
        let mut first = running.client().build();
        first.list()?;
        let mut second = running.client().retries(0).build();
        assert!(second.list().is_err());
        first.list()?;
        first.close();
        drop(first);
        // A new connection is accepted once the server has seen the end.
        let mut third = running.client().retries(10).build();
        third.list()?;
        drop((second, third));
        running.stop();
    }
    Ok(())
}

#[test]
fn client_and_server_over_a_stream() -> Result {
    let server = Server::builder(store(20)).build();
    let (client_end, server_end) = duplex(64);
    let serving = serving(server, &server_end);
    let mut client = over(&client_end, ClientConfig::new())?;
    assert_eq!(client.list()?.len(), 20);
    assert_eq!(collect(&mut client.list_and_get())?.len(), 20);
    client.close();
    drop(client);
    let reason = serving.join().unwrap()?;
    assert_eq!(reason, Some(CloseReason::PeerClosed));
    Ok(())
}

type Serving = JoinHandle<std::io::Result<Option<CloseReason>>>;

fn serving(server: Server, end: &StreamEnd) -> Serving {
    let (reader, writer, closer) = (end.clone(), end.clone(), end.clone());
    thread::spawn(move || server.serve_stream(reader, writer, closer, Peer::default()))
}

fn over(end: &StreamEnd, config: ClientConfig) -> std::io::Result<Client> {
    Client::from_stream(end.clone(), end.clone(), end.clone(), config)
}

struct Tls {
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
}

fn tls() -> Tls {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Tls {
        server: Arc::new(server),
        client: Arc::new(client),
    }
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn with_tls(tls: &Tls, count: u32) -> ServerBuilder {
    Server::builder(store(count)).tls(Arc::clone(&tls.server))
}

#[test]
fn t1_t2_one_port_serves_tls_and_plain_loopback() -> Result {
    let tls = tls();
    let running = RunningServer::start(with_tls(&tls, 100).build());
    let mut secure = running
        .client()
        .tls(Arc::clone(&tls.client), localhost())
        .build();
    assert_eq!(collect(&mut secure.list_and_get())?.len(), 100);
    let mut plain = running.client().build();
    assert_eq!(collect(&mut plain.list_and_get())?.len(), 100);
    let mut untrusting = {
        let roots = rustls::RootCertStore::empty();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        running.client().tls(config, localhost()).build()
    };
    let refused = untrusting.list().unwrap_err();
    assert!(matches!(refused, Error::Tls { .. }), "{refused}");
    drop((secure, plain, untrusting));
    running.stop();
    Ok(())
}

#[test]
fn t2_plain_and_tls_mismatch_is_a_specific_error() -> Result {
    let tls = tls();
    let running = RunningServer::start(with_tls(&tls, 1).plain(PlainPolicy::Refuse).build());
    let refused = running.client().build().list().unwrap_err();
    assert!(matches!(refused, Error::TlsServer { .. }), "{refused}");
    running.stop();

    let running = RunningServer::start(Server::builder(store(1)).build());
    let mut client = running
        .client()
        .tls(Arc::clone(&tls.client), localhost())
        .build();
    let refused = client.list().unwrap_err();
    assert!(matches!(refused, Error::PlainServer { .. }), "{refused}");
    drop(client);
    running.stop();
    Ok(())
}

#[test]
fn t4_tls_handshake_timeouts() -> Result {
    let tls = tls();
    let server = with_tls(&tls, 1)
        .handshake_timeout(SHORT)
        .first_byte_timeout(SHORT)
        .build();
    let running = RunningServer::start(server);
    for sent in [&[][..], &[0x16, 3, 1]] {
        let mut stream = TcpStream::connect(&running.address)?;
        stream.write_all(sent)?;
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert!(got.is_empty());
    }
    running.stop();
    Ok(())
}
