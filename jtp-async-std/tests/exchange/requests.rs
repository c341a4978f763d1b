//! Client and server over real sockets, plain and TLS, and over streams in memory: once for each runtime. What all adapters
//! do alike is in the behaviour suite of `tests/`, on async-std.

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tls;

use std::sync::Arc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use jtp_async_std::store::{
    BoxFuture, ImageStore, LiveCatalog, MemoryStore, OpenImage, StoreError,
};
use jtp_core::client::{ClientConfig, HaveSet};
use jtp_core::server::{CloseReason, ServerConfig};
use jtp_core::{Image, ImageId};

use super::adapter::{Client, ClientBuilder, Images, Peer, Server};
use super::runtime::{JoinHandle, TcpListener, TcpStream, block_on, channel, spawn};
use crate::stream::duplex;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The timeout under test; the others are far longer.
const SHORT: Option<Duration> = Some(Duration::from_millis(50));

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
    stop: channel::Sender<()>,
    task: JoinHandle<()>,
}

impl RunningServer {
    async fn start(server: Server) -> RunningServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = channel::bounded(1);
        let task = spawn(async move {
            let stopped = async { _ = stopped.recv().await };
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
        drop(self.stop);
        self.task.await;
    }
}

async fn collect(images: &mut Images<'_>) -> Result<Vec<ImageId>> {
    let mut ids = Vec::new();
    while let Some(image) = images.next().await? {
        let id = image.image().id;
        let bytes = image.bytes(1 << 30).await?;
        assert_eq!(ImageId::of(&bytes), id);
        ids.push(id);
    }
    Ok(ids)
}

/// The calls of a client whose server has the images of [`store`], and gets another one.
async fn requests(mut client: Client, store: &MemoryStore) -> Result {
    let catalog = store.catalog().snapshot();
    let all: Vec<ImageId> = catalog.entries().map(|entry| entry.id).collect();
    assert_eq!(client.list().await?.len(), all.len());
    assert_eq!(collect(&mut client.list_and_get()).await?, all);
    let have = HaveSet::try_from(all[..2].to_vec())?;
    assert_eq!(collect(&mut client.batch(have)).await?, all[2..]);
    assert_eq!(collect(&mut client.get(all.clone())).await?, all);
    let (_, mut watch) = client.list_and_watch().await?;
    let id = store.insert("new.gif", b"GIF89a".as_slice())?;
    assert_eq!(watch.next().await?.id, id);
    watch.cancel().await?;
    client.close().await;
    assert!(store.remove(id));
    Ok(())
}

#[test]
fn s11_s16_all_requests_over_tcp_and_over_a_stream_then_the_end_of_both() -> Result {
    block_on(async {
        let store = store(40);
        let server = Server::builder(Arc::clone(&store)).build();
        let running = RunningServer::start(server.clone()).await;
        requests(running.client().build(), &store).await?;
        let (client_end, server_end) = duplex(64);
        let embedded = server.clone();
        let serving =
            spawn(async move { embedded.serve_stream(server_end, Peer::default()).await });
        let client = Client::from_stream(client_end, ClientConfig::new().with_pipeline(true));
        requests(client, &store).await?;
        assert_eq!(serving.await?, Some(CloseReason::PeerClosed));

        let mut idle = TcpStream::connect(&running.address).await?;
        // Connections are accepted in order, so the idle one is when a later one is answered.
        running.client().build().list().await?;
        running.stop().await;
        assert_eq!(idle.read(&mut [0]).await?, 0);
        Ok(())
    })
}

/// A server that discards for an hour what a client sends after its last request.
fn lingering() -> ServerConfig {
    ServerConfig::new()
        .with_linger_timeout(Duration::from_secs(3600))
        .with_linger_bytes(u64::MAX)
}

#[test]
fn s11_peer_receives_eof_while_the_server_lingers() -> Result {
    block_on(async {
        let server = Server::builder(store(1)).config(lingering()).build();
        let running = RunningServer::start(server).await;
        let mut stream = TcpStream::connect(&running.address).await?;
        stream.write_all(&[255, 0]).await?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await?;
        assert_eq!(got[..5], *b"JTPE\x04");
        drop(stream);
        running.stop().await;
        Ok(())
    })
}

/// A store that panics when an image of 11 bytes is opened.
struct Panics(Arc<MemoryStore>);

impl ImageStore for Panics {
    fn catalog(&self) -> &LiveCatalog {
        self.0.catalog()
    }

    fn open(
        self: Arc<Self>,
        image: Image,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        assert_ne!(image.length, 11, "a deliberate panic");
        Arc::clone(&self.0).open(image, max_first)
    }
}

#[test]
fn panicking_store_ends_only_its_connection() -> Result {
    let store = MemoryStore::new();
    let good = store.insert("a.png", b"good".as_slice())?;
    let bad = store.insert("b.png", b"panics here".as_slice())?;
    block_on(async {
        let running = RunningServer::start(Server::builder(Panics(Arc::new(store))).build()).await;
        let mut client = running.client().retries(0).build();
        let failed = collect(&mut client.get([bad])).await.unwrap_err();
        assert!(failed.to_string().contains("ended before"), "{failed}");
        assert_eq!(collect(&mut client.get([good])).await?, [good]);
        drop(client);
        running.stop().await;
        Ok(())
    })
}

#[test]
fn t4_each_timeout_ends_the_connection() -> Result {
    let config = ServerConfig::new();
    block_on(async {
        for (sent, config, expected) in [
            (
                &[][..],
                config.with_first_request_timeout(SHORT),
                "timed out: the peer sent nothing",
            ),
            (
                &[1, 1],
                config.with_idle_timeout(SHORT),
                "timed out: the peer sent no further request",
            ),
            (
                &[1],
                config
                    .with_request_grace(SHORT)
                    .with_request_rate(16 * 1024),
                "timed out: a request arrived too slowly",
            ),
            (
                &[4, 0, 3],
                config.with_cancel_timeout(SHORT),
                "timed out: a CANCEL was not completed",
            ),
        ] {
            let server = Server::builder(store(1)).config(config).build();
            let (mut client_end, server_end) = duplex(64);
            client_end.write_all(sent).await?;
            let serving =
                spawn(async move { server.serve_stream(server_end, Peer::default()).await });
            let mut got = Vec::new();
            client_end.read_to_end(&mut got).await?;
            drop(client_end); // Otherwise the server lingers. // S11
            assert_eq!(serving.await?.unwrap().to_string(), expected);
        }
        // The write timeout: the stream holds 64 bytes, and the peer does not read.
        let config = config.with_write_timeout(SHORT);
        let server = Server::builder(store(100)).config(config).build();
        let (mut client_end, server_end) = duplex(64);
        client_end.write_all(&[5, 1]).await?;
        let reason = server.serve_stream(server_end, Peer::default()).await?;
        assert_eq!(
            reason.unwrap().to_string(),
            "timed out: the peer accepted no output"
        );
        Ok(())
    })
}
