//! Bodies that are in memory now and then.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use jtp_core::Image;
use jtp_store::{ImageBody, ImageStore, LiveCatalog, MemoryStore, OpenError, ReadError};

use common::client_of;

/// What was read where.
#[derive(Debug, Default)]
struct Reads {
    /// Threads on which a read could not wait.
    at_once: Mutex<Vec<ThreadId>>,
    /// Threads on which one could.
    aside: Mutex<Vec<ThreadId>>,
    tries: AtomicUsize,
}

struct Fickle {
    store: MemoryStore,
    reads: Arc<Reads>,
    /// Says of the n-th try whether there is something in memory, and at most how much.
    there: fn(usize) -> Option<usize>,
}

struct FickleBody {
    body: Box<dyn ImageBody>,
    reads: Arc<Reads>,
    there: fn(usize) -> Option<usize>,
}

impl ImageStore for Fickle {
    fn catalog(&self) -> &LiveCatalog {
        self.store.catalog()
    }

    fn open(&self, image: &Image) -> Result<Box<dyn ImageBody>, OpenError> {
        Ok(Box::new(FickleBody {
            body: self.store.open(image)?,
            reads: Arc::clone(&self.reads),
            there: self.there,
        }))
    }
}

impl ImageBody for FickleBody {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        self.reads
            .aside
            .lock()
            .unwrap()
            .push(thread::current().id());
        self.body.read_at(offset, buf)
    }

    fn try_read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, ReadError> {
        let Some(most) = (self.there)(self.reads.tries.fetch_add(1, Ordering::SeqCst)) else {
            return Ok(None);
        };
        self.reads
            .at_once
            .lock()
            .unwrap()
            .push(thread::current().id());
        let most = most.min(buf.len());
        self.body.read_at(offset, &mut buf[..most]).map(Some)
    }
}

async fn fetched(
    there: fn(usize) -> Option<usize>,
) -> Result<Arc<Reads>, Box<dyn std::error::Error>> {
    let reads = Arc::<Reads>::default();
    let store = Fickle {
        store: MemoryStore::new(),
        reads: Arc::clone(&reads),
        there,
    };
    let picture =
        |n: u8| -> Vec<u8> { (0..3 << 20).map(|at: u32| (at / 1000) as u8 ^ n).collect() };
    for n in 0..3 {
        store.store.insert(&format!("{n}.png"), picture(n))?;
    }
    let (mut client, ended) = client_of(store);
    let mut images = client.list_and_get();
    let mut count = 0;
    while let Some(image) = images.next().await? {
        assert!(image.bytes(3 << 20).await? == picture(count));
        count += 1;
    }
    assert_eq!(count, 3);
    drop(client);
    ended.await?;
    Ok(reads)
}

/// On this runtime of one thread a connection is served on the test's own.
#[tokio::test]
async fn what_is_in_memory_is_read_where_it_is_sent() -> Result<(), Box<dyn std::error::Error>> {
    let here = thread::current().id();
    let reads = fetched(|_| Some(usize::MAX)).await?;
    let at_once = reads.at_once.lock().unwrap().clone();
    assert!(at_once.len() >= 3 * 11, "{} pieces", at_once.len());
    assert!(at_once.iter().all(|thread| *thread == here));
    // Only where each image begins, which is opened aside as well.
    assert_eq!(reads.aside.lock().unwrap().len(), 3);
    Ok(())
}

#[tokio::test]
async fn what_may_wait_is_read_aside() -> Result<(), Box<dyn std::error::Error>> {
    let here = thread::current().id();
    let reads = fetched(|_| None).await?;
    let aside = reads.aside.lock().unwrap().clone();
    assert!(aside.len() >= 3 * 12 && !aside.contains(&here));
    for there in [
        |n| (n % 3 != 0).then_some(usize::MAX),
        |n| (n % 2 == 0).then_some(1000 + n),
        |n| (n > 5).then_some(100_000),
    ] as [fn(usize) -> Option<usize>; 3]
    {
        let reads = fetched(there).await?;
        let aside = reads.aside.lock().unwrap();
        assert!(aside.len() >= 3 && !aside.contains(&here));
    }
    Ok(())
}
