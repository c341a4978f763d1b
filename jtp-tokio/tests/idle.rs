//! Resources held by an idle connection.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jtp_core::Image;
use jtp_store::{ImageBody, ImageStore, LiveCatalog, MemoryStore, OpenError, ReadError};

use common::client_of;

/// A store that counts open images.
struct CountingStore {
    store: MemoryStore,
    open: Arc<AtomicUsize>,
}

struct CountingBody(Box<dyn ImageBody>, Arc<AtomicUsize>);

impl ImageStore for CountingStore {
    fn catalog(&self) -> &LiveCatalog {
        self.store.catalog()
    }

    fn open(&self, image: &Image) -> Result<Box<dyn ImageBody>, OpenError> {
        let body = self.store.open(image)?;
        self.open.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(CountingBody(body, Arc::clone(&self.open))))
    }
}

impl ImageBody for CountingBody {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        self.0.read_at(offset, buf)
    }
}

impl Drop for CountingBody {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn an_idle_connection_holds_no_image_open() -> Result<(), Box<dyn std::error::Error>> {
    let open = Arc::new(AtomicUsize::new(0));
    let store = CountingStore {
        store: MemoryStore::new(),
        open: Arc::clone(&open),
    };
    for n in 0..3u8 {
        // Several reads long, so that the image stays open between them.
        store.store.insert(&format!("{n}.png"), vec![n; 3 << 20])?;
    }
    let (mut client, ended) = client_of(store);
    let mut images = client.list_and_get();
    let mut count = 0;
    while let Some(image) = images.next().await? {
        assert_eq!(image.bytes(3 << 20).await?.len(), 3 << 20);
        count += 1;
    }
    assert_eq!(count, 3);
    client.list().await?; // By now the server has finished the images.
    assert_eq!(open.load(Ordering::SeqCst), 0);
    drop(client);
    ended.await?;
    Ok(())
}
