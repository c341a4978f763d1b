//! Bodies that can sometimes be read without blocking.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use jtp_core::Image;
use jtp_tokio::bytes::Bytes;
use jtp_tokio::store::{
    Blocking, BlockingBody, BlockingStore, ImageStore, LiveCatalog, MemoryStore, StoreError,
};

use crate::Result;
use crate::common::{client_of, read_whole};

/// The threads on which bodies were read.
#[derive(Debug, Default)]
struct Reads {
    /// The threads of non-blocking reads.
    non_blocking: Mutex<Vec<ThreadId>>,
    /// The threads of blocking reads.
    blocking: Mutex<Vec<ThreadId>>,
    attempts: AtomicUsize,
}

struct PartlyReadyStore {
    store: Arc<MemoryStore>,
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
        self.store.catalog()
    }

    fn open(&self, image: &Image) -> Result<(Image, Arc<dyn BlockingBody>), StoreError> {
        let body = PartlyReadyBody {
            bytes: read_whole(&self.store, *image)?,
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

impl BlockingBody for PartlyReadyBody {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, StoreError> {
        self.reads
            .blocking
            .lock()
            .unwrap()
            .push(thread::current().id());
        Ok(self.copy(offset, buf))
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, StoreError> {
        let Some(max) = (self.ready)(self.reads.attempts.fetch_add(1, Ordering::SeqCst)) else {
            return Ok(None);
        };
        self.reads
            .non_blocking
            .lock()
            .unwrap()
            .push(thread::current().id());
        let max = max.min(buf.len());
        Ok(Some(self.copy(offset, &mut buf[..max])))
    }
}

async fn fetch_all(ready: fn(usize) -> Option<usize>) -> Result<Arc<Reads>> {
    let reads = Arc::<Reads>::default();
    let store = PartlyReadyStore {
        store: Arc::default(),
        reads: Arc::clone(&reads),
        ready,
    };
    let image_bytes =
        |n: u8| -> Vec<u8> { (0..3 << 20).map(|at: u32| (at / 1000) as u8 ^ n).collect() };
    for n in 0..3 {
        store.store.insert(&format!("{n}.png"), image_bytes(n))?;
    }
    let (mut client, ended) = client_of(Blocking::new(store));
    let mut images = client.list_and_get();
    let mut count = 0;
    while let Some(image) = images.next().await? {
        assert!(image.bytes(3 << 20).await? == image_bytes(count));
        count += 1;
    }
    assert_eq!(count, 3);
    drop(client);
    ended.await?;
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
