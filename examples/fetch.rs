//! Fetches all images of a server into a folder, with the bare client, on tokio. A program that keeps a folder in step
//! uses jtp-sync: see `sync_tokio.rs`.
//!
//! `cargo run --example fetch -- --addr 127.0.0.1:8443 --out output [--cert cert.pem]`

use std::process::ExitCode;

use jtp_examples::{FetchArgs, Result, chain, client_tls, exit};
use jtp_store::{NamePlan, OutputFolder};
use jtp_tokio::{Client, ImageError};

#[tokio::main]
async fn main() -> ExitCode {
    exit(fetch().await)
}

async fn fetch() -> Result {
    let args = FetchArgs::parse()?;
    let mut client = Client::builder(&args.addr);
    if let Some(cert) = &args.cert {
        client = client.tls(client_tls(cert)?, args.server_name()?);
    }
    let mut client = client.build();
    let output = OutputFolder::open(&args.out)?;

    // The catalog has the names; `NamePlan` turns them into safe and distinct file names.
    let mut names = NamePlan::new();
    for entry in client.list().await? {
        names.add(entry.id, &entry.name, entry.flags.file_type());
    }
    let (mut fetched, mut failed) = (0, 0);
    let mut images = client.list_and_get();
    while let Some(mut incoming) = images.next().await? {
        let image = incoming.image();
        // `append` and `commit` block on the disk. A program with other tasks calls them in `spawn_blocking`.
        let mut file = output.begin(&image);
        loop {
            match incoming.chunk().await {
                Ok(Some(bytes)) => file.append(bytes)?,
                Ok(None) => break,
                Err(ImageError::Fatal(error)) => return Err(error.into()),
                // The client requests the image again, unless this was the last try.
                Err(error) => {
                    eprintln!("{}: {}", image.id, chain(&error));
                    failed += u32::from(matches!(error, ImageError::Fault { last: true, .. }));
                    break;
                }
            }
        }
        // The proof that the image is complete and correct. `commit` makes it visible in the folder.
        if let Some(verified) = incoming.verified() {
            file.commit(&names.name(image.id, image.flags.file_type()), verified)?;
            fetched += 1;
        }
    }
    client.close().await;
    println!("fetched {fetched} images, each verified; {failed} failed");
    if failed > 0 {
        return Err(format!("{failed} of the images failed").into());
    }
    Ok(())
}
