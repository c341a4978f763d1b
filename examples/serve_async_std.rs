//! Serves a folder of images on async-std, until it is killed.
//!
//! `cargo run --example serve_async_std -- --bind 127.0.0.1:8443 --images images [--tls]`

use std::process::ExitCode;

use async_std::net::TcpListener;
use async_std::task;
use jtp_async_std::Server;
use jtp_async_std::server::PlainPolicy;
use jtp_examples::{Result, ServeArgs, exit, server_tls};
use jtp_store::DirStore;

fn main() -> ExitCode {
    exit(task::block_on(serve()))
}

async fn serve() -> Result {
    let args = ServeArgs::parse()?;
    let mut server = Server::builder(DirStore::open_folder(args.images)?);
    if args.tls {
        server = server.tls(server_tls()?).plain(PlainPolicy::Refuse);
    }
    let listener = TcpListener::bind(args.bind).await?;
    println!("listening on {}", listener.local_addr()?);
    // Any future can trigger the graceful shutdown, which finishes requests in progress. This one never completes.
    let shutdown = std::future::pending();
    server.build().serve(listener, shutdown).await?;
    Ok(())
}
