//! Client and server over real sockets, plain and TLS, and over streams in memory.

use std::sync::Arc;
use std::time::Duration;

use jtp_core::client::{ClientConfig, ClientError, HaveSet};
use jtp_core::server::CloseReason;
use jtp_core::wire::response::ErrorCode;
use jtp_core::{FileType, ImageId};
use jtp_tokio::server::PlainPolicy;
use jtp_tokio::store::{ImageStore, MemoryStore};
use jtp_tokio::{Client, ClientBuilder, Error, ImageError, Peer, Request, Server, ServerBuilder};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

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
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl RunningServer {
    async fn start(server: Server) -> RunningServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.serve(listener, stopped).await.unwrap();
        });
        RunningServer {
            address,
            stop,
            task,
        }
    }

    fn client(&self) -> ClientBuilder {
        Client::builder(&self.address)
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
    }
}

async fn collect(images: &mut jtp_tokio::Images<'_>) -> Result<Vec<ImageId>> {
    let mut ids = Vec::new();
    while let Some(image) = images.next().await? {
        let id = image.image().id;
        let bytes = image.bytes(1 << 30).await?;
        assert_eq!(ImageId::of(&bytes), id);
        ids.push(id);
    }
    Ok(ids)
}

#[tokio::test]
async fn every_request_over_one_connection() -> Result {
    let store = store(300);
    let catalog = store.catalog().snapshot();
    let all: Vec<ImageId> = catalog.entries().map(|entry| entry.id).collect();
    let running = RunningServer::start(Server::builder(store).build()).await;
    let mut client = running.client().build();

    let listed = client.list().await?;
    assert_eq!(listed.iter().map(|entry| entry.id).collect::<Vec<_>>(), all);
    assert_eq!(listed[7].name, "0007.png");

    assert_eq!(collect(&mut client.list_and_get()).await?, all);

    let have = HaveSet::try_from(all[..200].to_vec())?;
    assert_eq!(collect(&mut client.batch(have)).await?, all[200..]);

    let mut images = client.get([all[3], ImageId(1), all[1]]);
    assert_eq!(collect(&mut images).await?, [all[3], all[1]]);
    assert_eq!(images.absent(), [ImageId(1)]);

    // More IDs than one request can name.
    assert_eq!(collect(&mut client.get(all.clone())).await?, all);
    drop(client);
    running.stop().await;
    Ok(())
}

#[tokio::test]
async fn c2_connection_works_after_a_cancel() -> Result {
    let store = MemoryStore::new();
    for n in 0..50u8 {
        store.insert(&format!("{n}.png"), vec![n; 1 << 20])?;
    }
    let running = RunningServer::start(Server::builder(Arc::new(store)).build()).await;
    for pipeline in [false, true] {
        let config = ClientConfig::new().with_pipeline(pipeline);
        let mut client = running.client().config(config).build();
        let mut images = client.list_and_get();
        let mut first = images.next().await?.unwrap();
        assert!(!first.chunk().await?.unwrap().is_empty());
        images.cancel().await?;
        assert_eq!(client.list().await?.len(), 50);
    }
    running.stop().await;
    Ok(())
}

#[tokio::test]
async fn n1_n3_watch_yields_new_images_and_ends_by_cancel() -> Result {
    let store = store(2);
    let running = RunningServer::start(Server::builder(Arc::clone(&store)).build()).await;
    let config = ClientConfig::new().with_pipeline(true);
    let mut client = running.client().config(config).build();
    let (listed, mut watch) = client.list_and_watch().await?;
    assert_eq!(listed.len(), 2);
    let id = store.insert("new.gif", b"GIF89a".as_slice())?;
    let event = watch.next().await?;
    assert_eq!((event.id, &*event.name), (id, "new.gif"));
    assert_eq!(event.flags.file_type(), FileType::Gif);
    watch.cancel().await?;
    assert_eq!(client.list().await?.len(), 3);
    drop(client);
    running.stop().await;
    Ok(())
}

#[tokio::test]
async fn s16_shutdown_ends_idle_connections_and_watches() -> Result {
    let running = RunningServer::start(Server::builder(store(2)).build()).await;
    let mut idle = running.client().build();
    assert_eq!(idle.list().await?.len(), 2);
    let mut watching = running.client().retries(0).build();
    let (_, mut watch) = watching.list_and_watch().await?;
    let ((), ended) = tokio::join!(running.stop(), watch.next());
    assert!(
        matches!(ended, Err(Error::Protocol(ClientError::EarlyEof))),
        "{ended:?}"
    );
    Ok(())
}

#[tokio::test]
async fn s16_shutdown_ends_caller_provided_streams() -> Result {
    let server = Server::builder(store(1)).build();
    let (mut client_end, server_end) = tokio::io::duplex(1024);
    let embedded = server.clone();
    let task = tokio::spawn(async move {
        embedded
            .serve_stream(server_end, Peer::new(None))
            .await
            .unwrap()
    });
    tokio::task::yield_now().await; // The connection is idle now.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    server.serve(listener, async {}).await?;
    let mut got = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), client_end.read_to_end(&mut got)).await??;
    drop(client_end);
    assert_eq!(task.await?, Some(CloseReason::Shutdown));
    Ok(())
}

#[tokio::test]
async fn s16_shutdown_does_not_wait_for_a_tls_handshake() -> Result {
    let server = with_tls(&tls(), 1)
        .handshake_timeout(None)
        .first_byte_timeout(None)
        .build();
    let running = RunningServer::start(server).await;
    let mut stream = TcpStream::connect(&running.address).await?;
    stream.write_all(&[0x16, 3, 1]).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    tokio::time::timeout(Duration::from_secs(5), running.stop()).await?;
    Ok(())
}

#[tokio::test]
async fn request_handler_sees_the_peer_and_refuses() -> Result {
    let server = Server::builder(store(1))
        .on_request(|request: Request| async move {
            assert!(request.peer().address.unwrap().ip().is_loopback());
            match request.kind().name() {
                "LIST" => request.accept(),
                _ => request.refuse(ErrorCode::UnsupportedFeature, "only LIST"),
            }
        })
        .build();
    let running = RunningServer::start(server).await;
    let mut client = running.client().build();
    client.list().await?;
    let refused = collect(&mut client.list_and_get()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the server reports UnsupportedFeature: only LIST"
    );
    drop(client);
    running.stop().await;
    Ok(())
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_accept() -> Result {
    for server in [
        Server::builder(store(1)).max_connections(1).build(),
        Server::builder(store(1)).max_connections_per_ip(1).build(),
    ] {
        let running = RunningServer::start(server).await;
        let mut first = running.client().build();
        first.list().await?;
        let mut second = running.client().retries(0).build();
        assert!(second.list().await.is_err());
        first.list().await?;
        first.close().await;
        drop(first);
        // A new connection is accepted once the server has seen the end.
        let mut third = running.client().retries(10).build();
        third.list().await?;
        drop((second, third));
        running.stop().await;
    }
    Ok(())
}

#[tokio::test]
async fn client_and_server_over_a_stream() -> Result {
    let server = Server::builder(store(20)).build();
    let (client_end, server_end) = tokio::io::duplex(64);
    let serving =
        tokio::spawn(async move { server.serve_stream(server_end, Peer::default()).await });
    let mut client = Client::from_stream(client_end, ClientConfig::new());
    assert_eq!(client.list().await?.len(), 20);
    assert_eq!(collect(&mut client.list_and_get()).await?.len(), 20);
    client.close().await;
    drop(client);
    assert_eq!(serving.await??, Some(CloseReason::PeerClosed));
    Ok(())
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

#[tokio::test]
async fn t1_t2_one_port_serves_tls_and_plain_loopback() -> Result {
    let tls = tls();
    let running = RunningServer::start(with_tls(&tls, 100).build()).await;
    let mut secure = running
        .client()
        .tls(Arc::clone(&tls.client), localhost())
        .build();
    assert_eq!(collect(&mut secure.list_and_get()).await?.len(), 100);
    let mut plain = running.client().build();
    assert_eq!(collect(&mut plain.list_and_get()).await?.len(), 100);
    let mut untrusting = {
        let roots = rustls::RootCertStore::empty();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        running.client().tls(config, localhost()).build()
    };
    let refused = untrusting.list().await.unwrap_err();
    assert!(matches!(refused, Error::Tls { .. }), "{refused}");
    drop((secure, plain, untrusting));
    running.stop().await;
    Ok(())
}

#[tokio::test]
async fn t2_plain_and_tls_mismatch_is_a_specific_error() -> Result {
    let tls = tls();
    let running = RunningServer::start(with_tls(&tls, 1).plain(PlainPolicy::Refuse).build()).await;
    let refused = running.client().build().list().await.unwrap_err();
    assert!(matches!(refused, Error::TlsServer { .. }), "{refused}");
    running.stop().await;

    let running = RunningServer::start(Server::builder(store(1)).build()).await;
    let mut client = running
        .client()
        .tls(Arc::clone(&tls.client), localhost())
        .build();
    let refused = client.list().await.unwrap_err();
    assert!(matches!(refused, Error::PlainServer { .. }), "{refused}");
    drop(client);
    running.stop().await;
    Ok(())
}

/// A server that answers each connection with the next of these byte strings and closes it.
#[tokio::test]
async fn connection_closed_during_the_tls_handshake_is_refused() -> Result {
    let (address, _) = scripted_server(vec![Vec::new()]).await;
    let builder = Client::builder(address).tls(tls().client, localhost());
    let refused = builder.build().connect().await.unwrap_err();
    assert!(
        refused.is_refused() && refused.is_transient(),
        "{refused:?}"
    );
    assert!(matches!(&refused, Error::Refused(cause) if matches!(**cause, Error::Tls { .. })));
    Ok(())
}

async fn scripted_server(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.unwrap();
            request.truncate(count);
            requests.push(request);
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
            let _ = stream.read(&mut [0; 64]).await;
        }
        requests
    });
    (address, task)
}

fn packet(bytes: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, u8::try_from(bytes.len()).unwrap()];
    packet.extend_from_slice(&ImageId::of(bytes).to_be_bytes());
    packet.extend_from_slice(bytes);
    packet
}

#[tokio::test]
async fn r6_missing_images_are_requested_on_a_new_connection() -> Result {
    let (a, b) = (packet(b"first"), packet(b"second"));
    let cut = [b"JTPG\x02".to_vec(), a.clone(), b[..12].to_vec()].concat();
    let rest = [b"JTPB\x01".to_vec(), b.clone()].concat();
    let (address, requests) = scripted_server(vec![cut, rest]).await;
    let mut client = Client::builder(address).build();
    let mut images = client.list_and_get();
    let mut got = Vec::new();
    let mut interrupted = 0;
    while let Some(image) = images.next().await? {
        match image.bytes(100).await {
            Ok(bytes) => got.push(bytes),
            Err(ImageError::Interrupted(_)) => interrupted += 1,
            Err(other) => return Err(other.into()),
        }
    }
    assert_eq!(got, [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(interrupted, 1);
    client.close().await;
    let requests = requests.await?;
    assert_eq!(requests[0], [5, 1]);
    let mut batch = vec![2, 1, 1];
    batch.extend_from_slice(&ImageId::of(b"first").to_be_bytes());
    assert_eq!(requests[1], batch);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r6_client_fails_after_three_retries_without_progress() -> Result {
    let (address, requests) = scripted_server(vec![b"JTPL".to_vec(); 4]).await;
    let mut client = Client::builder(address).build();
    let failed = client.list().await.unwrap_err();
    assert!(
        matches!(failed, Error::Protocol(ClientError::EarlyEof)),
        "{failed}"
    );
    assert_eq!(requests.await?.len(), 4);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn t4_tls_handshake_timeouts() -> Result {
    let tls = tls();
    let running = RunningServer::start(with_tls(&tls, 1).build()).await;
    for sent in [&[][..], &[0x16, 3, 1]] {
        let mut stream = TcpStream::connect(&running.address).await?;
        stream.write_all(sent).await?;
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got).await;
        assert!(got.is_empty());
    }
    running.stop().await;
    Ok(())
}
