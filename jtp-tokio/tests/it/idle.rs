//! Resources held by an idle connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jtp_core::Image;
use jtp_tokio::bytes::Bytes;
use jtp_tokio::store::{
    Blocking, BlockingBody, BlockingStore, ImageStore, LiveCatalog, MemoryStore, StoreError,
};

use crate::Result;
use crate::common::{client_of, read_whole};

/// A store that counts open images.
struct CountingStore {
    store: Arc<MemoryStore>,
    open: Arc<AtomicUsize>,
}

struct CountingBody {
    bytes: Bytes,
    open: Arc<AtomicUsize>,
}

impl BlockingStore for CountingStore {
    fn catalog(&self) -> &LiveCatalog {
        self.store.catalog()
    }

    fn open(&self, image: &Image) -> Result<(Image, Arc<dyn BlockingBody>), StoreError> {
        let bytes = read_whole(&self.store, *image)?;
        self.open.fetch_add(1, Ordering::SeqCst);
        let open = Arc::clone(&self.open);
        Ok((*image, Arc::new(CountingBody { bytes, open })))
    }
}

impl BlockingBody for CountingBody {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, StoreError> {
        let at = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&self.bytes[at..at + buf.len()]);
        Ok(buf.len())
    }
}

impl Drop for CountingBody {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn an_idle_connection_holds_no_image_open() -> Result {
    let open = Arc::new(AtomicUsize::new(0));
    let store = CountingStore {
        store: Arc::default(),
        open: Arc::clone(&open),
    };
    for n in 0..3u8 {
        // Several reads long, so that the image stays open between them.
        store.store.insert(&format!("{n}.png"), vec![n; 3 << 20])?;
    }
    let (mut client, ended) = client_of(Blocking::new(store));
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
