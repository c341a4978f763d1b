//! Serves a folder of images on tokio, until Ctrl-C.
//!
//! `cargo run --example serve_tokio -- --bind 127.0.0.1:8443 --images images [--tls]`

use std::process::ExitCode;

use jtp_examples::{Result, ServeArgs, exit, server_tls};
use jtp_store::DirStore;
use jtp_tokio::Server;
use jtp_tokio::server::PlainPolicy;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    exit(serve().await)
}

async fn serve() -> Result {
    let args = ServeArgs::parse()?;
    let mut server = Server::builder(DirStore::open_folder(args.images)?);
    if args.tls {
        server = server.tls(server_tls()?).plain(PlainPolicy::Refuse);
    }
    let listener = TcpListener::bind(args.bind).await?;
    println!("listening on {}", listener.local_addr()?);
    // Any future can trigger the graceful shutdown, which finishes requests in progress.
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    server.build().serve(listener, interrupted).await?;
    Ok(())
}
