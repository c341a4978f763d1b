//! A custom `ImageStore`: images that are generated while they are sent, neither on disk nor in memory, and a client
//! that fetches them.
//!
//! `cargo run --example memory_store`
//!
//! For images in memory, use `jtp_tokio::store::MemoryStore`. For a store whose calls block, implement
//! `jtp_tokio::store::BlockingStore`.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use jtp_examples::{Result, exit};
use jtp_tokio::bytes::Bytes;
use jtp_tokio::jtp_core::{FileType, Flags, Image, ImageId};
use jtp_tokio::store::{BoxFuture, ImageBody, ImageStore, LiveCatalog, OpenImage, StoreError};
use jtp_tokio::{Client, Server};
use tokio::net::TcpListener;

const SIDE: u64 = 256;
const HEADER: &[u8; 15] = b"P6 256 256 255\n";
const LENGTH: u64 = 15 + SIDE * SIDE * 3;

/// A PPM of 256 × 256 pixels. Each byte is a function of its offset.
#[derive(Clone, Copy)]
struct GeneratedImage {
    shade: u64,
}

impl GeneratedImage {
    fn byte(self, offset: u64) -> u8 {
        if let Some(byte) = HEADER.get(offset as usize) {
            return *byte;
        }
        let index = offset - 15;
        let (x, y) = (index / 3 % SIDE, index / 3 / SIDE);
        [x, y, (x ^ y) + self.shade][index as usize % 3].to_le_bytes()[0]
    }
}

impl ImageBody for GeneratedImage {
    /// The server asks only for bytes within the image. A store that reads from a network awaits the response here.
    fn read(self: Arc<Self>, offset: u64, length: usize) -> BoxFuture<Result<Bytes, StoreError>> {
        let bytes = (offset..).take(length).map(|offset| self.byte(offset));
        let bytes: Bytes = bytes.collect();
        Box::pin(async { Ok(bytes) })
    }
}

/// The store: a catalog, and the images in it.
#[derive(Default)]
struct GeneratedStore {
    catalog: LiveCatalog,
    images: HashMap<ImageId, GeneratedImage>,
}

impl GeneratedStore {
    /// Adds an image. Its ID is the hash of its bytes, so the bytes are generated once here.
    fn add(&mut self, name: &str, shade: u64) -> Result {
        let generated = GeneratedImage { shade };
        let bytes: Vec<u8> = (0..LENGTH).map(|offset| generated.byte(offset)).collect();
        let flags = Flags::new(FileType::Other, false);
        let image = Image::new(ImageId::of(&bytes), flags, LENGTH.try_into()?);
        self.images.insert(image.id, generated);
        Ok(self.catalog.edit(|writer| writer.insert(name, image))?)
    }
}

impl ImageStore for GeneratedStore {
    fn catalog(&self) -> &LiveCatalog {
        &self.catalog
    }

    fn open(
        self: Arc<Self>,
        image: Image,
        _max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        Box::pin(async move {
            let generated = self.images.get(&image.id);
            let generated = *generated.ok_or(StoreError::Gone(image.id))?;
            // A store that has the first bytes at hand passes them here instead of none.
            Ok(OpenImage::streamed(
                image,
                Bytes::new(),
                Arc::new(generated),
            ))
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    exit(run().await)
}

async fn run() -> Result {
    let mut store = GeneratedStore::default();
    for shade in [0, 64, 128, 192] {
        store.add(&format!("shade-{shade}.ppm"), shade)?;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut client = Client::builder(listener.local_addr()?.to_string()).build();
    let server = Server::builder(store).build();
    // Serves until the client is done.
    tokio::select! {
        served = server.serve(listener, std::future::pending()) => Ok(served?),
        fetched = fetch(&mut client) => fetched,
    }
}

async fn fetch(client: &mut Client) -> Result {
    for entry in client.list().await? {
        println!("{}  {} bytes  {}", entry.id, entry.length, entry.name);
    }
    let mut images = client.list_and_get();
    while let Some(incoming) = images.next().await? {
        let id = incoming.image().id;
        let bytes = incoming.bytes(1 << 20).await?;
        println!("{id}: {} bytes, verified", bytes.len());
    }
    client.close().await;
    Ok(())
}
