//! A connection that always has something to do lets others have their turn.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::available_parallelism;
use std::time::Duration;

use jtp_core::server::CloseReason;
use jtp_store::MemoryStore;
use jtp_tokio::{Peer, Server};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A peer that sends without end, and takes whatever it is sent.
struct Greedy {
    request: Vec<u8>,
    at: usize,
    read: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
}

impl AsyncRead for Greedy {
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

impl AsyncWrite for Greedy {
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

fn greedy(request: Vec<u8>) -> Greedy {
    Greedy {
        request,
        at: 0,
        read: Arc::default(),
        written: Arc::default(),
    }
}

/// BATCH, keep-alive, a million IDs; again and again.
fn ids_without_end() -> Vec<u8> {
    [&[2, 1, 0xc0, 0x84, 0x3d][..], &[7; 8_000_000]].concat()
}

/// Serves one, until it has read and written so much; the most of both between two turns.
async fn most_in_a_turn(request: Vec<u8>, until: usize) -> (usize, usize) {
    let store = MemoryStore::new();
    for n in 0..4u8 {
        store.insert(&format!("{n}.png"), vec![n; 3 << 20]).unwrap();
    }
    let greedy = greedy(request);
    let (read, written) = (Arc::clone(&greedy.read), Arc::clone(&greedy.written));
    let server = Server::builder(Arc::new(store)).build();
    let peer = Peer::default();
    let mut serving = pin!(server.serve_stream(greedy, &peer));
    let (mut before, mut most) = ((0, 0), (0, 0));
    poll_fn(|cx| {
        assert!(serving.as_mut().poll(cx).is_pending(), "it goes on");
        let after = (
            read.load(Ordering::Relaxed),
            written.load(Ordering::Relaxed),
        );
        most.0 = most.0.max(after.0 - before.0);
        most.1 = most.1.max(after.1 - before.1);
        before = after;
        if after.0 + after.1 < until {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    most
}

#[tokio::test]
async fn s8_ids_without_end_are_read_a_slice_a_turn() {
    let (read, _) = most_in_a_turn(ids_without_end(), 20_000_000).await;
    assert!(read <= 32 * 1024, "{read} bytes in a turn");
}

#[tokio::test]
async fn images_without_end_are_written_a_slice_a_turn() {
    // LIST_AND_GET, keep-alive.
    let (_, written) = most_in_a_turn(vec![5, 1], 200_000_000).await;
    assert!(written <= 512 * 1024, "{written} bytes in a turn");
}

#[tokio::test(start_paused = true)]
async fn t4_who_is_called_and_does_not_come_holds_up_no_deadline() {
    let server = Server::builder(Arc::new(MemoryStore::new())).build();
    let peer = Peer::default();
    // As many as are called at a time, each polled once.
    let mut called = Vec::new();
    for _ in 0..available_parallelism().map_or(1, usize::from) {
        let mut serving = Box::pin(server.serve_stream(greedy(ids_without_end()), &peer));
        poll_fn(|cx| {
            assert!(serving.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        called.push(serving);
    }
    let serving = server.serve_stream(greedy(ids_without_end()), &peer);
    let reason = tokio::time::timeout(Duration::from_secs(3600), serving).await;
    let reason = reason.expect("a deadline comes").unwrap();
    assert!(
        matches!(reason, Some(CloseReason::Timeout(_))),
        "{reason:?}"
    );
}
