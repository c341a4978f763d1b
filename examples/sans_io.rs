//! `jtp-core` without I/O: a client and a server connection joined in memory, without sockets, clock or threads.
//! Each line of the output shows bytes that one side consumed, and the event that it reported for them.
//!
//! `cargo run --example sans_io`

use std::process::ExitCode;

use jtp_core::client::{ClientConfig, ClientConnection, Event, Request};
use jtp_core::server::{ServerConfig, ServerConnection};
use jtp_core::wire::request::CANCEL;
use jtp_core::{CatalogWriter, FileType, Flags, Image, ImageId, Time};
use jtp_examples::{Result, exit};

const PICTURE: &[u8] = b"GIF89a, or so";

/// The caller passes the time to both machines. Here it never advances.
const NOW: Time = Time::ZERO;

/// The two machines, and the bytes in transit between them.
struct Pair {
    client: ClientConnection,
    server: ServerConnection,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result {
    let id = ImageId::of(PICTURE);
    let flags = Flags::new(FileType::Gif, false);
    let length = u32::try_from(PICTURE.len())?;
    let mut catalog = CatalogWriter::new();
    catalog.insert("a.gif", Image::new(id, flags, length))?;
    let mut pair = Pair {
        client: ClientConnection::new(ClientConfig::new(), NOW),
        server: ServerConnection::new(ServerConfig::new(), NOW),
        to_server: Vec::new(),
        to_client: Vec::new(),
    };
    for request in [Request::List, Request::GetById(vec![id]), Request::Watch] {
        println!("the client requests: {request:?}");
        pair.client.request(request, true, NOW)?;
        while pair.step(&mut catalog)? {}
    }

    println!("an image is added");
    let id = ImageId::of(b"");
    catalog.insert("empty.gif", Image::new(id, flags, 0))?;
    pair.server.catalog_changed(&catalog.publish(), NOW);
    while pair.step(&mut catalog)? {}

    println!("the client cancels the watch");
    pair.client.cancel(NOW)?;
    while pair.step(&mut catalog)? {}
    Ok(())
}

impl Pair {
    /// Carries bytes once each way; whether there were any.
    fn step(&mut self, catalog: &mut CatalogWriter) -> Result<bool> {
        let Pair {
            client,
            server,
            to_server,
            to_client,
        } = self;
        // Output is read with `transmit` and acknowledged with `transmitted`. `receive` returns how much input it used.
        to_server.extend_from_slice(client.transmit());
        client.transmitted(client.transmit().len(), NOW)?;
        let received = server.receive(to_server, NOW);
        let what = match received.event {
            Some(head) => format!("{head:?}"),
            None if to_server.starts_with(&[CANCEL, 0]) => "CANCEL".to_owned(),
            None => "the IDs".to_owned(),
        };
        if received.used > 0 {
            print("client → server", to_server.drain(..received.used), &what);
        }
        if received.event.is_some() {
            server.accept(&catalog.publish(), NOW)?; // Or refuse it, or decide later.
        }

        // The server requests a part of an image. The caller decides where the bytes come from.
        if let Some(wanted) = server.wants_body() {
            server.body_loaded(wanted.remaining(), NOW)?;
        }
        let output = server.transmit();
        to_client.extend_from_slice(output.bytes);
        to_client.extend(output.body.iter().flat_map(|span| &PICTURE[span.range()]));
        let sent = output.len();
        server.transmitted(sent, NOW)?;

        // An event borrows from the input, so the bytes of an image are not copied.
        loop {
            let got = client.receive(to_client, NOW)?;
            let what = match &got.event {
                Some(Event::Data(bytes)) => format!("Data: {}", bytes.escape_ascii()),
                Some(event) => format!("{event:?}"),
                None => "an incomplete frame".to_owned(),
            };
            let (used, is_last) = (got.used, got.event.is_none());
            if used > 0 || !is_last {
                print("server → client", to_client.drain(..used), &what);
            }
            if is_last {
                return Ok(received.used > 0 || sent > 0);
            }
        }
    }
}

fn print(way: &str, bytes: impl Iterator<Item = u8>, what: &str) {
    let hex: Vec<_> = bytes.map(|byte| format!("{byte:02x}")).collect();
    println!("  {way}  {:<38}  {what}", hex.join(" "));
}
