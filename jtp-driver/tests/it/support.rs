//! Servers and clients on smol.

use std::sync::Arc;

use jtp_async_std::smol::{Client, Server};
use jtp_core::client::CatalogEntry;
use jtp_core::wire::entry::{self, Entry};
use jtp_core::wire::response::{ErrorCode, ErrorFrame, Header, encode_head};
use jtp_core::{FileType, Flags, Image, ImageId};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpListener;

/// A server on a free port, and its address.
pub(crate) async fn start(server: &Server) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.clone();
    smol::spawn(async move { server.serve(listener, std::future::pending()).await }).detach();
    address
}

/// What a scripted server does on one connection: each request that it expects, and its answer. An empty request stands
/// for any.
pub(crate) type Script = Vec<(Vec<u8>, Vec<u8>)>;

/// A server that plays one script on each connection, then closes it. It sends the number of accepted connections.
pub(crate) async fn scripted(scripts: Vec<Script>) -> (String, smol::Task<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = smol::spawn(async move {
        let mut accepted = 0;
        for script in scripts {
            let (mut stream, _) = listener.accept().await.unwrap();
            accepted += 1;
            for (expected, answer) in script {
                let mut request = vec![0; expected.len()];
                stream.read_exact(&mut request).await.unwrap();
                assert_eq!(request, expected);
                if expected.is_empty() {
                    assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
                }
                stream.write_all(&answer).await.unwrap();
            }
        }
        accepted
    });
    (address, task)
}

/// A client that tries once.
pub(crate) fn client(address: &str) -> Client {
    Client::builder(address).retries(0).build()
}

/// Two connected sockets.
#[cfg(unix)]
#[allow(clippy::unused_async)]
pub(crate) async fn socket_pair() -> (smol::net::unix::UnixStream, smol::net::unix::UnixStream) {
    smol::net::unix::UnixStream::pair().unwrap()
}

/// Two connected sockets.
#[cfg(not(unix))]
pub(crate) async fn socket_pair() -> (smol::net::TcpStream, smol::net::TcpStream) {
    let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connected = smol::net::TcpStream::connect(address);
    let (accepted, connected) = smol::future::zip(listener.accept(), connected).await;
    (accepted.unwrap().0, connected.unwrap())
}

/// The bytes of all images.
pub(crate) async fn fetch_all(
    client: &mut Client,
) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    let mut images = client.list_and_get();
    while let Some(image) = images.next().await? {
        all.push(image.bytes(1 << 30).await?);
    }
    Ok(all)
}

/// A store with one image of these bytes for each.
pub(crate) fn memory(images: &[&'static [u8]]) -> Arc<jtp_driver::store::MemoryStore> {
    let store = jtp_driver::store::MemoryStore::new();
    for (n, bytes) in images.iter().enumerate() {
        store.insert(&format!("{n:04}.png"), *bytes).unwrap();
    }
    Arc::new(store)
}

/// An entry of a LIST.
pub(crate) fn named(name: &str) -> Vec<u8> {
    let flags = Flags::new(FileType::Png, false);
    let image = Image::new(ImageId::of(name.as_bytes()), flags, 1);
    let mut bytes = Vec::new();
    entry::encode(&Entry::new(name, image), &mut bytes).unwrap();
    bytes
}

/// A LIST that announces this many entries and has these.
pub(crate) fn list(announced: u32, names: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_head(Header::List, announced, &mut bytes);
    bytes.extend(names.iter().flat_map(|name| named(name)));
    bytes
}

/// An error frame.
pub(crate) fn error(code: ErrorCode) -> Vec<u8> {
    let mut bytes = Vec::new();
    ErrorFrame::new(code, "no").encode(&mut bytes);
    bytes
}

/// The names of a catalog.
pub(crate) fn names(entries: &[CatalogEntry<'_>]) -> Vec<String> {
    entries.iter().map(|entry| entry.name.to_string()).collect()
}
