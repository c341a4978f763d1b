//! Servers over real sockets.

use std::sync::Arc;
use std::time::Duration;

use jtp_async_std::smol::{Client, ClientBuilder, Server};
use jtp_async_std::store::{
    BoxFuture, ImageStore, LiveCatalog, MemoryStore, OpenImage, StoreError,
};
use jtp_core::server::ServerConfig;
use jtp_core::{Image, ImageId};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

use crate::Result;

/// A store with one image that sockets do not hold.
pub(crate) fn large() -> MemoryStore {
    let store = MemoryStore::new();
    store.insert("a.png", vec![7; 16 << 20]).unwrap();
    store
}

pub(crate) struct RunningServer {
    server: Server,
    pub(crate) address: String,
    task: smol::Task<std::io::Result<()>>,
}

impl RunningServer {
    pub(crate) async fn start(server: Server) -> Result<RunningServer> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("localhost:{}", listener.local_addr()?.port());
        let serving = server.clone();
        let task =
            smol::spawn(async move { serving.serve(listener, std::future::pending()).await });
        Ok(RunningServer {
            server,
            address,
            task,
        })
    }

    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder(&self.address).retries(0)
    }

    pub(crate) async fn stop(self) -> Result {
        self.server.shutdown().await;
        Ok(self.task.await?)
    }
}

/// Fetches all images, and closes the connection. Returns their number.
pub(crate) async fn fetch_all(client: ClientBuilder) -> Result<usize> {
    let mut client = client.build();
    let (mut count, mut images) = (0, client.list_and_get());
    while let Some(image) = images.next().await? {
        let id = image.image().id;
        assert_eq!(ImageId::of(&image.bytes(1 << 30).await?), id);
        count += 1;
    }
    client.close().await;
    Ok(count)
}

/// A server that discards for an hour what a client sends after its last request.
pub(crate) fn lingering() -> ServerConfig {
    ServerConfig::new()
        .with_linger_timeout(Duration::from_secs(3600))
        .with_linger_bytes(u64::MAX)
}

#[test]
fn s11_s16_an_image_then_eof_while_the_server_lingers_and_at_its_end() -> Result {
    smol::block_on(async {
        let server = Server::builder(large()).config(lingering()).build();
        let running = RunningServer::start(server).await?;
        assert_eq!(fetch_all(running.client()).await?, 1);
        let mut stream = TcpStream::connect(&running.address).await?;
        stream.write_all(&[255, 0]).await?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await?;
        assert_eq!(got[..5], *b"JTPE\x04");
        drop(stream);
        let mut idle = TcpStream::connect(&running.address).await?;
        // Connections are accepted in order, so the idle one is when a later one is answered.
        running.client().build().list().await?;
        let reading = async move { idle.read(&mut [0]).await };
        let (stopped, read) = smol::future::zip(running.stop(), reading).await;
        assert_eq!(read?, 0);
        stopped
    })
}

#[test]
fn t4_a_timer_that_was_reset_ends_an_idle_connection() -> Result {
    smol::block_on(async {
        let short = Some(Duration::from_millis(50));
        let config = ServerConfig::new().with_idle_timeout(short);
        let server = Server::builder(MemoryStore::new()).config(config).build();
        let running = RunningServer::start(server).await?;
        let mut stream = TcpStream::connect(&running.address).await?;
        stream.write_all(&[1, 1]).await?; // LIST, keep-alive.
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await?;
        assert_eq!(got, b"JTPL\0");
        drop(stream);
        running.stop().await
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
    smol::block_on(async {
        let server = Server::builder(Panics(Arc::new(store))).build();
        let running = RunningServer::start(server).await?;
        let mut client = running.client().build();
        let failed = client.get([bad]).next().await.err().ok_or("no error")?;
        assert!(failed.to_string().contains("ended before"), "{failed}");
        let mut images = client.get([good]);
        let image = images.next().await?.ok_or("no image")?;
        assert_eq!(image.bytes(10).await?, b"good");
        drop(client);
        running.stop().await
    })
}
