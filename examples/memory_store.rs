//! A store of one's own: pictures that are drawn while they are sent, held by no disk and no memory, and a
//! client that fetches them.
//!
//! `cargo run --example memory_store`
//!
//! For images that are in memory as they are there is `jtp_store::MemoryStore`.

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

/// A PPM of 256 × 256 pixels: each byte is a function of its place.
#[derive(Clone, Copy)]
struct Picture {
    id: ImageId,
    shade: u32,
}

impl Picture {
    fn byte(self, at: u32) -> u8 {
        if let Some(byte) = HEADER.get(at as usize) {
            return *byte;
        }
        let at = at - 15;
        let (x, y) = (at / 3 % SIDE, at / 3 / SIDE);
        [x, y, (x ^ y) + self.shade][at as usize % 3].to_le_bytes()[0]
    }
}

impl ImageBody for Picture {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let at = u32::try_from(offset).unwrap_or(LENGTH).min(LENGTH);
        if at == LENGTH && !buf.is_empty() {
            return Err(ReadError::PastEnd {
                id: self.id,
                offset,
                length: LENGTH.into(),
            });
        }
        Ok(buf
            .iter_mut()
            .zip(at..LENGTH)
            .map(|(byte, at)| *byte = self.byte(at))
            .count())
    }
}

/// What a server shows: a catalog, and a body for each image in it.
#[derive(Default)]
struct Gallery {
    catalog: LiveCatalog,
    pictures: HashMap<ImageId, Picture>,
}

impl Gallery {
    /// The ID is the hash of the bytes, so they are drawn once beforehand.
    fn add(&mut self, name: &str, shade: u32) -> Result {
        let mut picture = Picture {
            id: ImageId(0),
            shade,
        };
        let bytes: Vec<u8> = (0..LENGTH).map(|at| picture.byte(at)).collect();
        picture.id = ImageId::of(&bytes);
        self.pictures.insert(picture.id, picture);
        let image = Image::new(picture.id, Flags::new(FileType::Other, false), LENGTH);
        Ok(self.catalog.edit(|writer| writer.insert(name, image))?)
    }
}

impl ImageStore for Gallery {
    fn catalog(&self) -> &LiveCatalog {
        &self.catalog
    }

    fn open(&self, image: &Image) -> Result<Box<dyn ImageBody>, OpenError> {
        let picture = self
            .pictures
            .get(&image.id)
            .ok_or(OpenError::Gone(image.id))?;
        Ok(Box::new(*picture))
    }
}

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result {
    let mut gallery = Gallery::default();
    for shade in [0, 64, 128, 192] {
        gallery.add(&format!("shade-{shade}.ppm"), shade)?;
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = Client::builder(listener.local_addr()?.to_string()).build();
    let (server, shutdown) = (Server::builder(Arc::new(gallery)).build(), Shutdown::new()?);
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
        println!(
            "{id}: {} bytes came, verified",
            incoming.bytes(1 << 20)?.len()
        );
    }
    client.close();
    Ok(())
}
