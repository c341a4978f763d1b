//! Each public future of the client and the server is dropped at each of its awaits. What its docs say about that holds,
//! and the next request gets its own response. Those that may be called again (`next` and `chunk` of images, `next` of a
//! watch) are dropped in the behaviour suite.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use jtp_core::ImageId;
use jtp_core::client::ClientConfig;
use jtp_tokio::store::MemoryStore;
use jtp_tokio::{Client, Error, ImageError, Peer, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::Result;

/// Drops `future` when it returns `Pending` for the `at`th time, counted from 0, and returns `None` then.
async fn drop_at<F: Future>(at: usize, future: F) -> Option<F::Output> {
    let (mut left, mut future) = (at, Box::pin(future));
    poll_fn(move |cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Calls a cancel safe method until it is complete, and drops its future at each await.
macro_rules! complete {
    ($call:expr) => {
        loop {
            match drop_at(0, $call).await {
                Some(output) => break output,
                // What it waits for happens meanwhile.
                None => tokio::task::yield_now().await,
            }
        }
    };
}

/// A stream whose reads and writes wait every other time, so that there are many awaits.
struct Hesitant {
    stream: DuplexStream,
    read_waits: bool,
    write_waits: bool,
}

fn waits(flag: &mut bool, cx: &Context<'_>) -> Poll<()> {
    *flag = !*flag;
    if *flag {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(())
}

impl AsyncRead for Hesitant {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(waits(&mut self.read_waits, cx));
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Hesitant {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(waits(&mut self.write_waits, cx));
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn hesitant(stream: DuplexStream) -> Hesitant {
    Hesitant {
        stream,
        read_waits: false,
        write_waits: false,
    }
}

const IMAGES: [&[u8]; 3] = [&[1; 300], &[2; 5], &[3; 200]];

/// A server with [`IMAGES`], and where it listens.
struct RunningServer {
    store: Arc<MemoryStore>,
    server: Server,
    address: String,
    task: JoinHandle<io::Result<()>>,
}

async fn running() -> Result<RunningServer> {
    let store = Arc::new(MemoryStore::new());
    for (n, bytes) in IMAGES.into_iter().enumerate() {
        store.insert(&format!("{n}.png"), bytes)?;
    }
    let server = Server::builder(Arc::clone(&store)).build();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("localhost:{}", listener.local_addr()?.port());
    let serving = server.clone();
    Ok(RunningServer {
        store,
        server,
        address,
        task: tokio::spawn(async move { serving.serve(listener, pending()).await }),
    })
}

/// The three ways in which a client reaches its server.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Over {
    Tcp,
    /// A stream of the caller's, which cannot be replaced.
    Stream,
    /// The same, with more than one request under way.
    PipeliningStream,
}

const EACH: [Over; 3] = [Over::Tcp, Over::Stream, Over::PipeliningStream];

impl RunningServer {
    fn client(&self, over: Over) -> Client {
        let pipeline = match over {
            Over::Tcp => return Client::builder(&self.address).build(),
            Over::Stream => false,
            Over::PipeliningStream => true,
        };
        let (client_end, server_end) = tokio::io::duplex(64);
        let server = self.server.clone();
        tokio::spawn(async move { server.serve_stream(server_end, Peer::default()).await });
        let config = ClientConfig::new().with_pipeline(pipeline);
        Client::from_stream(hesitant(client_end), config)
    }
}

/// The next requests get their own responses.
async fn assert_usable(client: &mut Client) -> Result {
    let ids = IMAGES.map(ImageId::of);
    let mut images = client.get([ids[2]]);
    let image = images.next().await?.ok_or("no image")?;
    assert_eq!(image.image().id, ids[2]);
    assert_eq!(image.bytes(1000).await?, IMAGES[2]);
    assert!(images.next().await?.is_none());
    let listed = client.list().await?;
    assert!(IMAGES.len() <= listed.len() && listed[0].name == "0.png");
    Ok(())
}

/// Runs `test` with 0, 1, 2, … for each way to the server, until it returns that the future was not dropped. Afterwards
/// the client is usable, but over the ways that have `ended`.
async fn at_each_await(
    ended: &[Over],
    test: impl AsyncFn(&mut Client, usize) -> Result<bool>,
) -> Result {
    let running = running().await?;
    let mut drops = 0;
    for over in EACH {
        for at in 0.. {
            let attempt = async {
                let mut client = running.client(over);
                let dropped = test(&mut client, at).await?;
                match ended.contains(&over) {
                    true => assert!(matches!(client.list().await, Err(Error::Misuse(_)))),
                    false => assert_usable(&mut client).await?,
                }
                Result::<bool>::Ok(dropped)
            };
            let attempt = tokio::time::timeout(Duration::from_secs(20), attempt);
            let attempt = attempt
                .await
                .map_err(|_| format!("hangs, {over:?}, {at}"))?;
            if !attempt.map_err(|error| format!("{error:?}, {over:?}, {at}"))? {
                break;
            }
            drops += 1;
        }
    }
    assert!(drops > 0);
    Ok(())
}

/// The ways over which a client can be used after whatever it did.
const NONE: &[Over] = &[];
/// R7: without pipelining no request follows a CANCEL on the same connection, and a stream is the only one.
const AFTER_CANCEL: &[Over] = &[Over::Stream];
/// What ends the only connection.
const AFTER_END: &[Over] = &[Over::Stream, Over::PipeliningStream];

#[tokio::test]
async fn connect() -> Result {
    at_each_await(NONE, async |client, at| {
        let dropped = drop_at(at, client.connect()).await.transpose()?.is_none();
        client.connect().await?;
        Ok(dropped)
    })
    .await
}

#[tokio::test]
async fn list() -> Result {
    at_each_await(NONE, async |client, at| {
        Ok(drop_at(at, client.list()).await.transpose()?.is_none())
    })
    .await
}

#[tokio::test]
async fn images_that_are_dropped_between_two_polls() -> Result {
    at_each_await(NONE, async |client, at| {
        let fetched = drop_at(at, async {
            let mut images = client.list_and_get();
            while let Some(mut image) = images.next().await? {
                while image.chunk().await?.is_some() {}
                let verified = image.verified().ok_or("not verified")?;
                assert_eq!(verified.id(), image.image().id);
            }
            Result::<()>::Ok(())
        });
        Ok(fetched.await.transpose()?.is_none())
    })
    .await
}

/// The image is lost, the others are not.
#[tokio::test]
async fn incoming_bytes() -> Result {
    at_each_await(NONE, async |client, at| {
        let mut images = client.list_and_get();
        let first = images.next().await?.ok_or("no image")?;
        let bytes = drop_at(at, first.bytes(1000)).await.transpose()?;
        assert!(bytes.as_ref().is_none_or(|bytes| *bytes == IMAGES[0]));
        for expected in &IMAGES[1..] {
            let image = images.next().await?.ok_or("no image")?;
            assert_eq!(image.bytes(1000).await?, *expected);
        }
        assert!(images.next().await?.is_none());
        Ok(bytes.is_none())
    })
    .await
}

#[tokio::test]
async fn images_cancel() -> Result {
    at_each_await(AFTER_CANCEL, async |client, at| {
        let mut images = client.list_and_get();
        let mut first = images.next().await?.ok_or("no image")?;
        assert!(first.chunk().await?.is_some());
        Ok(drop_at(at, images.cancel()).await.transpose()?.is_none())
    })
    .await
}

#[tokio::test]
async fn watch_next_and_watch() -> Result {
    for over in EACH {
        let running = running().await?;
        let mut client = running.client(over);
        client.connect().await?;
        let mut watch = complete!(client.watch())?;
        while running.server.counters().watchers == 0 {
            assert!(drop_at(0, watch.next()).await.is_none());
            tokio::task::yield_now().await;
        }
        for n in 0..20u8 {
            let id = running.store.insert(&format!("new{n}.gif"), vec![n; 10])?;
            assert_eq!(complete!(watch.next())?.id, id);
        }
    }
    Ok(())
}

#[tokio::test]
async fn watch_cancel() -> Result {
    at_each_await(AFTER_CANCEL, async |client, at| {
        let (_, watch) = client.list_and_watch().await?;
        Ok(drop_at(at, watch.cancel()).await.transpose()?.is_none())
    })
    .await
}

/// The watch may have begun. Over the only stream that is the end: nothing can follow it but CANCEL. // N3
#[tokio::test]
async fn list_and_watch() -> Result {
    at_each_await(AFTER_END, async |client, at| {
        let started = drop_at(at, client.list_and_watch()).await;
        Ok(started.transpose()?.is_none())
    })
    .await
}

#[tokio::test]
async fn close() -> Result {
    at_each_await(AFTER_END, async |client, at| {
        client.list().await?;
        drop_at(0, client.close()).await;
        Ok(at == 0)
    })
    .await
}

/// The connection ends, and the server serves others.
#[tokio::test]
async fn serve_stream_and_serve_tcp() -> Result {
    for tcp in [false, true] {
        let running = running().await?;
        for at in 0.. {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let connecting = TcpStream::connect(listener.local_addr()?);
            let (client, accepted) = tokio::join!(connecting, listener.accept());
            let (mut client, (stream, address)) = (client?, accepted?);
            // LIST_AND_GET, then LIST without keep-alive.
            client.write_all(&[5, 1, 1, 0]).await?;
            let reading = tokio::spawn(async move {
                let mut got = Vec::new();
                // A reset is an end too.
                let _ = client.read_to_end(&mut got).await;
                got
            });
            let ended = if tcp {
                drop_at(at, running.server.serve_tcp(stream, address)).await
            } else {
                let peer = Peer::new(Some(address));
                drop_at(at, running.server.serve_stream(stream, peer)).await
            };
            assert_eq!(running.server.counters().connections_open, 0);
            let got = tokio::time::timeout(Duration::from_secs(20), reading).await??;
            if ended.transpose()?.is_some() {
                assert_eq!(got[..5], *b"JTPG\x03");
                break;
            }
        }
        assert_usable(&mut running.client(Over::Tcp)).await?;
    }
    Ok(())
}

/// Connections end with the future.
#[tokio::test]
async fn serve() -> Result {
    let store = MemoryStore::new();
    store.insert("a.png", IMAGES[0])?;
    let server = Server::builder(store).build();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut client = Client::builder(listener.local_addr()?.to_string());
    client = client.retries(0);
    let mut client = client.build();
    let mut serving = Box::pin(server.serve(listener, pending()));
    let listed = tokio::select! {
        ended = &mut serving => panic!("{ended:?}"),
        listed = client.list() => listed?,
    };
    assert_eq!((listed.len(), server.counters().connections_open), (1, 1));
    drop(serving);
    // Long before the connection is closed for being idle.
    let closed = tokio::time::timeout(Duration::from_secs(20), async {
        while server.counters().connections_open > 0 {
            tokio::task::yield_now().await;
        }
    });
    closed.await?;
    assert!(matches!(client.list().await, Err(Error::Connect { .. })));
    Ok(())
}

/// The shutdown goes on without the future.
#[tokio::test]
async fn shutdown() -> Result {
    let running = running().await?;
    let mut client = running.client(Over::Tcp);
    client.list().await?;
    assert!(drop_at(0, running.server.shutdown()).await.is_none());
    running.task.await??;
    assert_eq!(running.server.counters().connections_open, 0);
    Ok(())
}

/// The error inside an image is returned once, also if the future was dropped before.
#[tokio::test]
async fn chunk_of_an_image_that_is_lost() -> Result {
    let (client_end, mut server_end) = tokio::io::duplex(64);
    let mut client = Client::from_stream(hesitant(client_end), ClientConfig::new());
    let mut images = client.list_and_get();
    let (next, written) = tokio::join!(images.next(), async {
        server_end.read_exact(&mut [0; 2]).await?;
        let head = [&b"JTPG\x01\x00\x64"[..], &[0; 8], &[7; 10]].concat();
        server_end.write_all(&head).await
    });
    written?;
    let mut image = next?.ok_or("no image")?;
    assert_eq!(complete!(image.chunk())?.ok_or("no bytes")?, [7; 10]);
    assert_eq!(image.received(), 10);
    for _ in 0..3 {
        assert!(drop_at(0, image.chunk()).await.is_none());
    }
    drop(server_end);
    assert!(matches!(
        complete!(image.chunk()),
        Err(ImageError::Fatal(_))
    ));
    assert_eq!(image.received(), 10);
    assert!(matches!(images.next().await, Err(Error::Failed)));
    Ok(())
}
