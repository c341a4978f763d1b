//! Client and server over real sockets, plain and TLS, and over streams in memory: once for each runtime.

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tls;

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::{or, zip};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use jtp_async_std::store::{
    BoxFuture, ImageStore, LiveCatalog, MemoryStore, OpenImage, StoreError,
};
use jtp_core::client::{ClientConfig, ClientError, HaveSet};
use jtp_core::server::{CloseReason, ServerConfig};
use jtp_core::wire::response::ErrorCode;
use jtp_core::{FileType, Image, ImageId};

use super::adapter::{Client, ClientBuilder, Error, Images, Peer, Request, Server};
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

fn big_images() -> Result<Arc<MemoryStore>> {
    let store = MemoryStore::new();
    for n in 0..50u8 {
        store.insert(&format!("{n}.png"), vec![n; 1 << 20])?;
    }
    Ok(Arc::new(store))
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

#[test]
fn every_request_over_one_connection() -> Result {
    block_on(async {
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
    })
}

#[test]
fn c2_connection_works_after_a_cancel() -> Result {
    block_on(async {
        let running = RunningServer::start(Server::builder(big_images()?).build()).await;
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
    })
}

#[test]
fn n1_n3_watch_yields_new_images_and_ends_by_cancel() -> Result {
    block_on(async {
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
    })
}

#[test]
fn s16_shutdown_ends_idle_connections_and_watches() -> Result {
    block_on(async {
        let running = RunningServer::start(Server::builder(store(2)).build()).await;
        let mut idle = running.client().build();
        assert_eq!(idle.list().await?.len(), 2);
        let mut watching = running.client().retries(0).build();
        let (_, mut watch) = watching.list_and_watch().await?;
        let ((), ended) = zip(running.stop(), watch.next()).await;
        assert!(
            matches!(ended, Err(Error::Protocol(ClientError::EarlyEof))),
            "{ended:?}"
        );
        Ok(())
    })
}

#[test]
fn s16_response_in_progress_is_completed() -> Result {
    block_on(async {
        // The client does not read to the end, so the server lingers for the whole time. // S11
        let config = ServerConfig::new()
            .with_linger_timeout(Duration::from_millis(50))
            .with_linger_bytes(1024);
        let server = Server::builder(big_images()?)
            .config(config)
            .drain_timeout(None)
            .build();
        let running = RunningServer::start(server).await;
        let mut client = running.client().build();
        let mut images = client.list_and_get();
        let first = images.next().await?.unwrap().bytes(1 << 20).await?;
        assert_eq!(first.len(), 1 << 20);
        let ((), rest) = zip(running.stop(), collect(&mut images)).await;
        assert_eq!(rest?.len(), 49);
        Ok(())
    })
}

#[test]
fn s16_connections_close_after_the_drain_time() -> Result {
    block_on(async {
        let server = Server::builder(big_images()?).drain_timeout(SHORT).build();
        let running = RunningServer::start(server).await;
        let mut client = running.client().retries(0).build();
        let mut images = client.list_and_get();
        let mut first = images.next().await?.unwrap();
        assert!(first.chunk().await?.is_some());
        // The client does not read; the write timeout is 30 s.
        running.stop().await;
        assert!(collect(&mut images).await.is_err());
        Ok(())
    })
}

#[test]
fn connections_end_when_serving_is_dropped() -> Result {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut stream = TcpStream::connect(listener.local_addr()?).await?;
        let server = Server::builder(store(0)).build();
        let serving = async {
            server.serve(listener, std::future::pending()).await?;
            Ok(())
        };
        let asking = async {
            stream.write_all(&[1, 1]).await?;
            let mut got = [0; 5];
            stream.read_exact(&mut got).await?;
            assert_eq!(&got, b"JTPL\0");
            Ok::<_, std::io::Error>(())
        };
        or(serving, asking).await?;
        assert_eq!(stream.read(&mut [0]).await?, 0);
        Ok(())
    })
}

#[test]
fn s11_peer_receives_eof_while_the_server_lingers() -> Result {
    let hour = Duration::from_secs(3600);
    let config = ServerConfig::new()
        .with_linger_timeout(hour)
        .with_linger_bytes(u64::MAX);
    block_on(async {
        let running = RunningServer::start(Server::builder(store(1)).config(config).build()).await;
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
fn request_handler_sees_the_peer_and_refuses() -> Result {
    block_on(async {
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
    })
}

#[test]
fn connections_over_the_limit_are_closed_at_accept() -> Result {
    block_on(async {
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
    })
}

#[test]
fn client_and_server_over_a_stream() -> Result {
    block_on(async {
        let server = Server::builder(store(20)).build();
        let (client_end, server_end) = duplex(64);
        let serving = spawn(async move { server.serve_stream(server_end, Peer::default()).await });
        let mut client = Client::from_stream(client_end, ClientConfig::new());
        assert_eq!(client.list().await?.len(), 20);
        assert_eq!(collect(&mut client.list_and_get()).await?.len(), 20);
        client.close().await;
        drop(client);
        assert_eq!(serving.await?, Some(CloseReason::PeerClosed));
        Ok(())
    })
}

#[test]
fn t6_silent_server_times_out() -> Result {
    block_on(async {
        let (client_end, _server_end) = duplex(64);
        let config = ClientConfig::new().with_response_timeout(SHORT);
        let mut client = Client::from_stream(client_end, config);
        let failed = client.list().await.unwrap_err();
        assert!(
            matches!(failed, Error::Protocol(ClientError::TimedOut)),
            "{failed}"
        );
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
