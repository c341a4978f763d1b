//! Bodies that can sometimes be read without blocking, and are closed once they are sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use jtp_core::client::ClientConfig;
use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_tokio::bytes::Bytes;
use jtp_tokio::store::{Blocking, BlockingBody, BlockingStore, LiveCatalog, StoreError};
use jtp_tokio::{Client, Peer, Server};

use crate::Result;

/// The threads on which bodies were read.
#[derive(Debug, Default)]
struct Reads {
    /// The threads of non-blocking reads.
    non_blocking: Mutex<Vec<ThreadId>>,
    /// The threads of blocking reads.
    blocking: Mutex<Vec<ThreadId>>,
    attempts: AtomicUsize,
    /// Open bodies.
    open: AtomicUsize,
}

struct PartlyReadyStore {
    catalog: LiveCatalog,
    images: Vec<Bytes>,
    reads: Arc<Reads>,
    /// How many bytes the n-th non-blocking read may return; `None` if it would block.
    ready: fn(usize) -> Option<usize>,
}

struct PartlyReadyBody {
    bytes: Bytes,
    reads: Arc<Reads>,
    ready: fn(usize) -> Option<usize>,
}

impl BlockingStore for PartlyReadyStore {
    fn catalog(&self) -> &LiveCatalog {
        &self.catalog
    }

    fn open(&self, image: &Image) -> Result<(Image, Arc<dyn BlockingBody>), StoreError> {
        let mut images = self.images.iter();
        let bytes = images.find(|bytes| ImageId::of(bytes) == image.id);
        self.reads.open.fetch_add(1, Ordering::SeqCst);
        let body = PartlyReadyBody {
            bytes: bytes.ok_or(StoreError::Gone(image.id))?.clone(),
            reads: Arc::clone(&self.reads),
            ready: self.ready,
        };
        Ok((*image, Arc::new(body)))
    }
}

impl PartlyReadyBody {
    fn copy(&self, offset: u64, buf: &mut [u8]) -> usize {
        let at = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&self.bytes[at..at + buf.len()]);
        buf.len()
    }
}

impl Drop for PartlyReadyBody {
    fn drop(&mut self) {
        self.reads.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl BlockingBody for PartlyReadyBody {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, StoreError> {
        let mut threads = self.reads.blocking.lock().unwrap();
        threads.push(thread::current().id());
        Ok(self.copy(offset, buf))
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, StoreError> {
        let Some(max) = (self.ready)(self.reads.attempts.fetch_add(1, Ordering::SeqCst)) else {
            return Ok(None);
        };
        let mut threads = self.reads.non_blocking.lock().unwrap();
        threads.push(thread::current().id());
        let max = max.min(buf.len());
        Ok(Some(self.copy(offset, &mut buf[..max])))
    }
}

async fn fetch_all(ready: fn(usize) -> Option<usize>) -> Result<Arc<Reads>> {
    const LENGTH: u32 = 3 << 20;
    let reads = Arc::<Reads>::default();
    let image = |n: u8| -> Bytes { (0..LENGTH).map(|at| (at / 1000) as u8 ^ n).collect() };
    let images: Vec<Bytes> = (0..3).map(image).collect();
    let catalog = LiveCatalog::new();
    for (n, bytes) in images.iter().enumerate() {
        let image = Image::new(ImageId::of(bytes), Flags::new(FileType::Png, false), LENGTH);
        catalog.edit(|writer| writer.insert(&format!("{n}.png"), image))?;
    }
    let store = Blocking::new(PartlyReadyStore {
        catalog,
        images: images.clone(),
        reads: Arc::clone(&reads),
        ready,
    });
    let server = Server::builder(store).build();
    let (client_end, server_end) = tokio::io::duplex(64 * 1024);
    let serving =
        tokio::spawn(async move { server.serve_stream(server_end, Peer::default()).await });
    let mut client = Client::from_stream(client_end, ClientConfig::new());
    let mut received = client.list_and_get();
    for expected in &images {
        let image = received.next().await?.ok_or("no image")?;
        assert!(image.bytes(3 << 20).await? == *expected);
    }
    assert!(received.next().await?.is_none());
    client.list().await?; // By now the server has finished the images.
    assert_eq!(reads.open.load(Ordering::SeqCst), 0);
    drop(client);
    serving.await??;
    Ok(reads)
}

/// On this single-threaded runtime, connections are served on the test's thread.
#[tokio::test]
async fn in_memory_bodies_are_read_on_the_connections_thread() -> Result {
    let test_thread = thread::current().id();
    let reads = fetch_all(|_| Some(usize::MAX)).await?;
    let non_blocking = reads.non_blocking.lock().unwrap().clone();
    assert!(
        non_blocking.len() >= 3 * 11,
        "{} pieces",
        non_blocking.len()
    );
    assert!(non_blocking.iter().all(|thread| *thread == test_thread));
    // Only the first read of each image, together with opening it.
    assert_eq!(reads.blocking.lock().unwrap().len(), 3);
    Ok(())
}

#[tokio::test]
async fn blocking_reads_run_on_other_threads() -> Result {
    let test_thread = thread::current().id();
    let reads = fetch_all(|_| None).await?;
    let blocking = reads.blocking.lock().unwrap().clone();
    assert!(blocking.len() >= 3 * 12 && !blocking.contains(&test_thread));
    for ready in [
        |n| (n % 3 != 0).then_some(usize::MAX),
        |n| (n % 2 == 0).then_some(1000 + n),
        |n| (n > 5).then_some(100_000),
    ] as [fn(usize) -> Option<usize>; 3]
    {
        let reads = fetch_all(ready).await?;
        let blocking = reads.blocking.lock().unwrap();
        assert!(blocking.len() >= 3 && !blocking.contains(&test_thread));
    }
    Ok(())
}
