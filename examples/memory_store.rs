//! A custom `ImageStore`: images that are generated while they are sent, neither on disk nor in memory, and a client
//! that fetches them.
//!
//! `cargo run --example memory_store`
//!
//! For images in memory, use `jtp_store::MemoryStore`.

use std::collections::HashMap;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use jtp_blocking::{Client, Server, Shutdown};
use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_examples::{Result, exit};
use jtp_store::{ImageBody, ImageStore, LiveCatalog, OpenError, ReadError};

const SIDE: u32 = 256;
const HEADER: &[u8; 15] = b"P6 256 256 255\n";
const LENGTH: u32 = 15 + SIDE * SIDE * 3;

/// A PPM of 256 × 256 pixels. Each byte is a function of its offset.
#[derive(Clone, Copy)]
struct GeneratedImage {
    id: ImageId,
    shade: u32,
}

impl GeneratedImage {
    fn byte(self, offset: u32) -> u8 {
        if let Some(byte) = HEADER.get(offset as usize) {
            return *byte;
        }
        let index = offset - 15;
        let (x, y) = (index / 3 % SIDE, index / 3 / SIDE);
        [x, y, (x ^ y) + self.shade][index as usize % 3].to_le_bytes()[0]
    }
}

impl ImageBody for GeneratedImage {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let start = u32::try_from(offset).unwrap_or(LENGTH).min(LENGTH);
        if start == LENGTH && !buf.is_empty() {
            return Err(ReadError::PastEnd {
                id: self.id,
                offset,
                length: LENGTH.into(),
            });
        }
        Ok(buf
            .iter_mut()
            .zip(start..LENGTH)
            .map(|(byte, offset)| *byte = self.byte(offset))
            .count())
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
    fn add(&mut self, name: &str, shade: u32) -> Result {
        let mut generated = GeneratedImage {
            id: ImageId(0),
            shade,
        };
        let bytes: Vec<u8> = (0..LENGTH).map(|offset| generated.byte(offset)).collect();
        generated.id = ImageId::of(&bytes);
        self.images.insert(generated.id, generated);
        let image = Image::new(generated.id, Flags::new(FileType::Other, false), LENGTH);
        Ok(self.catalog.edit(|writer| writer.insert(name, image))?)
    }
}

impl ImageStore for GeneratedStore {
    fn catalog(&self) -> &LiveCatalog {
        &self.catalog
    }

    fn open(&self, image: &Image) -> Result<Box<dyn ImageBody>, OpenError> {
        let generated = self
            .images
            .get(&image.id)
            .ok_or(OpenError::Gone(image.id))?;
        Ok(Box::new(*generated))
    }
}

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result {
    let mut store = GeneratedStore::default();
    for shade in [0, 64, 128, 192] {
        store.add(&format!("shade-{shade}.ppm"), shade)?;
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = Client::builder(listener.local_addr()?.to_string()).build();
    let (server, shutdown) = (Server::builder(Arc::new(store)).build(), Shutdown::new()?);
    thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(listener, &shutdown));
        let fetched = fetch(&mut client);
        shutdown.begin();
        serving.join().expect("the server does not panic")?;
        fetched
    })
}

fn fetch(client: &mut Client) -> Result {
    for entry in client.list()? {
        println!("{}  {} bytes  {}", entry.id, entry.length, entry.name);
    }
    let mut images = client.list_and_get();
    while let Some(incoming) = images.next()? {
        let id = incoming.image().id;
        println!("{id}: {} bytes, verified", incoming.bytes(1 << 20)?.len());
    }
    client.close();
    Ok(())
}
