//! Server and client in one process: serves a folder of images over TLS on loopback, syncs another folder with it, and
//! fetches the difference when an image is added.
//!
//! `cargo run --release --example sync [FOLDER]`; FOLDER defaults to `images` and is not modified.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use jtp_examples::{Result, exit};
use jtp_store::DirStore;
use jtp_sync::FolderSync;
use jtp_tokio::jtp_core::ImageId;
use jtp_tokio::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use jtp_tokio::rustls::{self, RootCertStore};
use jtp_tokio::store::ImageStore;
use jtp_tokio::{Client, Server};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    exit(run().await)
}

async fn run() -> Result {
    let source = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("images"), PathBuf::from);
    let work = tempfile::tempdir()?;
    let (shared, fetched) = (work.path().join("shared"), work.path().join("fetched"));
    copy_folder(&source, &shared)?;

    // The server: a folder, a certificate generated for this run, and a free port.
    let store = Arc::new(DirStore::open_folder(&shared)?);
    let (server_tls, client_tls) = tls()?;
    let server = Server::builder(Arc::clone(&store)).tls(server_tls).build();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener, std::future::pending()).await }
    });
    println!(
        "serving {} images on {address}, over TLS",
        store.catalog().snapshot().len()
    );

    // A client that watches the server receives the catalog first.
    let name = ServerName::try_from("localhost")?;
    let builder = Client::builder(address.to_string()).tls(client_tls, name);
    let mut client = builder.clone().build();
    let (catalog, mut watch) = client.list_and_watch().await?;
    for entry in &catalog {
        let encoding = if entry.flags.is_compressed() {
            "compressed"
        } else {
            "uncompressed"
        };
        println!(
            "  {}  {:>7} bytes {encoding}  {}",
            entry.id, entry.length, entry.name
        );
    }

    // The sync fetches what the folder lacks: all images. Each is verified before it is visible.
    let mut sync = FolderSync::builder(builder, &fetched).build();
    let started = Instant::now();
    let totals = sync.run().await?;
    println!(
        "fetched {} images in {:.1?}, each verified by its ID",
        totals.placed.images,
        started.elapsed()
    );

    // An image is added to the served folder. The watcher receives an event, and the next run fetches the difference.
    std::fs::write(shared.join("added.bmp"), gradient(320, 200))?;
    let added = watch.next().await?;
    println!("event: {} was added with ID {}", added.name, added.id);
    drop(watch);
    let totals = sync.run().await?;
    println!(
        "fetched {} image; {} were there",
        totals.placed.images, totals.kept.images
    );

    client.close().await;
    server.shutdown().await;
    serving.await??;
    compare(&shared, &fetched)?;
    println!("both folders contain the same images");
    Ok(())
}

/// A certificate for `localhost`, and configurations for both sides.
fn tls() -> Result<(rustls::ServerConfig, rustls::ClientConfig)> {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())?;
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone())?;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((server, client))
}

fn copy_folder(from: &Path, to: &Path) -> Result {
    let entries = std::fs::read_dir(from).map_err(|e| format!("{}: {e}", from.display()))?;
    std::fs::create_dir(to)?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Fails unless every file of one folder is in the other.
fn compare(shared: &Path, fetched: &Path) -> Result {
    let id = |path: &Path| -> Result<ImageId> { Ok(ImageId::of(&std::fs::read(path)?)) };
    for entry in std::fs::read_dir(shared)? {
        let entry = entry?;
        if id(&entry.path())? != id(&fetched.join(entry.file_name()))? {
            return Err(format!("{} differs", entry.path().display()).into());
        }
    }
    Ok(())
}

/// A BMP with 24 bits per pixel.
fn gradient(width: u32, height: u32) -> Vec<u8> {
    let row = (width * 3).next_multiple_of(4);
    let size = 54 + row * height;
    let mut bmp = b"BM".to_vec();
    for field in [
        size,
        0,
        54,
        40,
        width,
        height,
        1 | 24 << 16,
        0,
        row * height,
        2835,
        2835,
        0,
        0,
    ] {
        bmp.extend_from_slice(&field.to_le_bytes());
    }
    for y in 0..height {
        let start = bmp.len();
        for x in 0..width {
            bmp.extend([x * 255 / width, y * 255 / height, 128].map(|c| c.to_le_bytes()[0]));
        }
        bmp.resize(start + row as usize, 0);
    }
    bmp
}
