//! A connection that always has work yields to other tasks.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::available_parallelism;

use jtp_core::server::{CloseReason, Timeout};
use jtp_tokio::store::MemoryStore;
use jtp_tokio::{Peer, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// A stream whose peer sends endlessly and accepts all output.
struct EndlessPeer {
    request: Vec<u8>,
    at: usize,
    read: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
}

impl AsyncRead for EndlessPeer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while buf.remaining() > 0 {
            let rest = &self.request[self.at..];
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            self.at = (self.at + count) % self.request.len();
            self.read.fetch_add(count, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for EndlessPeer {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.fetch_add(buf.len(), Ordering::Relaxed);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn endless_peer(request: Vec<u8>) -> EndlessPeer {
    EndlessPeer {
        request,
        at: 0,
        read: Arc::default(),
        written: Arc::default(),
    }
}

/// BATCH with keep-alive and a million IDs, repeated endlessly.
fn endless_ids() -> Vec<u8> {
    [&[2, 1, 0xc0, 0x84, 0x3d][..], &[7; 8_000_000]].concat()
}

/// Serves an endless peer until `until` bytes are read and written; returns the maximum of each in one poll.
async fn max_per_poll(request: Vec<u8>, until: usize) -> (usize, usize) {
    let store = MemoryStore::new();
    for n in 0..4u8 {
        store.insert(&format!("{n}.png"), vec![n; 3 << 20]).unwrap();
    }
    let endless_peer = endless_peer(request);
    let (read, written) = (
        Arc::clone(&endless_peer.read),
        Arc::clone(&endless_peer.written),
    );
    let server = Server::builder(store).build();
    let mut serving = pin!(server.serve_stream(endless_peer, Peer::default()));
    let (mut before, mut max) = ((0, 0), (0, 0));
    poll_fn(|cx| {
        assert!(
            serving.as_mut().poll(cx).is_pending(),
            "the connection stays open"
        );
        let after = (
            read.load(Ordering::Relaxed),
            written.load(Ordering::Relaxed),
        );
        max.0 = max.0.max(after.0 - before.0);
        max.1 = max.1.max(after.1 - before.1);
        before = after;
        if after.0 + after.1 < until {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    max
}

#[tokio::test]
async fn s8_bytes_read_per_poll_are_bounded() {
    let (read, _) = max_per_poll(endless_ids(), 20_000_000).await;
    assert!(read <= 32 * 1024, "{read} bytes in one poll");
}

#[tokio::test]
async fn bytes_written_per_poll_are_bounded() {
    // LIST_AND_GET, keep-alive.
    let (_, written) = max_per_poll(vec![5, 1], 200_000_000).await;
    assert!(written <= 512 * 1024, "{written} bytes in one poll");
}

/// LIST_AND_GET, keep-alive, once: then the peer is silent, and reads everything.
async fn reads_every_image_once(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.write_all(&[5, 1]).await.unwrap();
    let mut buffer = vec![0; 64 * 1024];
    while stream.read(&mut buffer).await.unwrap() > 0 {}
}

#[tokio::test(start_paused = true)]
async fn t4_unpolled_connections_do_not_delay_others_nor_their_deadlines() {
    let store = MemoryStore::new();
    store.insert("large.png", vec![1; 3 << 20]).unwrap();
    let server = Server::builder(store).build();
    // More connections than run at a time. Each is polled once, has more to do, and is not polled again.
    let mut unpolled = Vec::new();
    for _ in 0..=available_parallelism().map_or(1, usize::from) {
        let mut serving =
            Box::pin(server.serve_stream(endless_peer(endless_ids()), Peer::default()));
        poll_fn(|cx| {
            assert!(serving.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        unpolled.push(serving);
    }
    // These need several turns each, and then time out.
    let (client_end, server_end) = tokio::io::duplex(64 * 1024);
    let serving = server.serve_stream(server_end, Peer::default());
    let (reason, ()) = tokio::join!(serving, reads_every_image_once(client_end));
    assert_eq!(reason.unwrap(), Some(CloseReason::Timeout(Timeout::Idle)));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap());
    let stream = stream.await.unwrap();
    let serving = server.serve(listener, std::future::pending());
    tokio::select! {
        _ = serving => panic!("the server ended"),
        () = reads_every_image_once(stream) => {}
    }
}
