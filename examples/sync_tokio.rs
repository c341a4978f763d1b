//! Keeps a folder in step with a server, on tokio: fetches what it lacks, with progress, then follows the server
//! until Ctrl-C. After an interruption the next run goes on where this one ended.
//!
//! `cargo run --example sync_tokio -- --addr 127.0.0.1:8443 --out output [--cert cert.pem]`

use std::process::ExitCode;

use jtp_examples::{FetchArgs, Result, client_tls, exit, on_ctrl_c, progress};
use jtp_sync::{Error, FolderSync, ShutdownSignal};
use jtp_tokio::Client;

#[tokio::main]
async fn main() -> ExitCode {
    exit(sync().await)
}

async fn sync() -> Result {
    let args = FetchArgs::parse()?;
    let mut server = Client::builder(&args.addr);
    if let Some(cert) = &args.cert {
        server = server.tls(client_tls(cert)?, args.server_name()?);
    }
    let cancel = ShutdownSignal::new();
    let mut sync = FolderSync::builder(server, &args.out)
        .cancel(cancel.clone())
        .observer(progress())
        .build();
    on_ctrl_c(move || cancel.begin())?;

    let ended = async {
        let totals = sync.run().await?;
        println!("{} new, {} failed", totals.placed.images, totals.failed());
        sync.follow().await
    }
    .await;
    match ended {
        Err(Error::Cancelled) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
