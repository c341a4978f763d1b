//! Serves a folder of images on plain threads, until it is killed.
//!
//! `cargo run --example serve_blocking -- --bind 127.0.0.1:8443 --images images [--tls]`

use std::net::TcpListener;
use std::process::ExitCode;

use jtp_blocking::server::PlainPolicy;
use jtp_blocking::{Server, ShutdownSignal};
use jtp_examples::{Result, ServeArgs, exit, server_tls};
use jtp_store::DirStore;

fn main() -> ExitCode {
    exit(serve())
}

fn serve() -> Result {
    let args = ServeArgs::parse()?;
    let mut server = Server::builder(DirStore::open_folder(args.images)?);
    if args.tls {
        server = server.tls(server_tls()?).plain(PlainPolicy::Refuse);
    }
    let listener = TcpListener::bind(args.bind)?;
    println!("listening on {}", listener.local_addr()?);
    // `begin` on a clone, from another thread, starts a graceful shutdown, which finishes requests in progress.
    let shutdown = ShutdownSignal::new();
    server.build().serve(listener, &shutdown)?;
    Ok(())
}
