//! The server's connection against scripted clients, on simulated time. Random ones are in the test `simulation`.

mod clocks;
mod completed;
mod requests;
mod watch;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::catalog::CatalogWriter;
use crate::image::{FileType, Flags, ImageId};
use crate::wire::{Decoded, Dissector, Frame, packet, varint};

const SECOND: Duration = Duration::from_secs(1);

/// A server with a catalog and a connection, the bytes of a scripted client, and the bytes sent to that client.
struct Scenario {
    writer: CatalogWriter,
    images: BTreeMap<ImageId, Vec<u8>>,
    connection: ServerConnection,
    now: Time,
    input: Vec<u8>,
    sent: Vec<u8>,
    half_closed: bool,
    /// Whether `run` accepts requests.
    auto_accept: bool,
    /// Whether `run` loads bodies.
    auto_load: bool,
    /// Maximum number of bytes in one write.
    write_limit: usize,
    requests: Vec<RequestHead>,
}

impl Scenario {
    fn new(count: u8) -> Scenario {
        Scenario::with(count, ServerConfig::new())
    }

    fn with(count: u8, config: ServerConfig) -> Scenario {
        let mut server = Scenario {
            writer: CatalogWriter::new(),
            images: BTreeMap::new(),
            connection: ServerConnection::new(config, Time::ZERO),
            now: Time::ZERO,
            input: Vec::new(),
            sent: Vec::new(),
            half_closed: false,
            auto_accept: true,
            auto_load: true,
            write_limit: usize::MAX,
            requests: Vec::new(),
        };
        for n in 0..count {
            server.add(&format!("{n:03}.png"), vec![n; 100]);
        }
        server.writer.publish();
        server
    }

    fn add(&mut self, name: &str, bytes: Vec<u8>) -> ImageId {
        let id = ImageId::of(&bytes);
        let length = u32::try_from(bytes.len()).unwrap();
        let image = Image::new(id, Flags::new(FileType::Png, false), length);
        self.writer.insert(name, image).unwrap();
        self.images.insert(id, bytes);
        id
    }

    fn publish(&mut self) {
        let catalog = self.writer.publish();
        self.connection.catalog_changed(&catalog, self.now);
    }

    /// The client sends bytes, and the server runs until nothing more happens.
    fn send(&mut self, bytes: &[u8]) -> &mut Scenario {
        if self.connection.wants_read(&self.input) || self.input.len() < 64 * 1024 {
            self.input.extend_from_slice(bytes);
        }
        self.run()
    }

    /// Passes the input to the connection, up to a request that waits for a decision.
    fn feed(&mut self) {
        loop {
            let received = self.connection.receive(&self.input, self.now);
            self.input.drain(..received.used);
            let Some(request) = received.event else {
                return;
            };
            self.requests.push(request);
            if !self.auto_accept {
                return;
            }
            self.connection
                .accept(self.writer.snapshot(), self.now)
                .unwrap();
        }
    }

    /// Loads a body if one is wanted, and writes once. Returns whether anything was written.
    fn write(&mut self) -> bool {
        if self.auto_load {
            if let Some(wanted) = self.connection.wants_body() {
                let count = wanted.remaining();
                self.connection.body_loaded(count, self.now).unwrap();
            }
        }
        let shown = self.connection.transmit();
        let mut bytes = shown.bytes.to_vec();
        if let Some(span) = shown.body {
            assert!(span.length > 0);
            bytes.extend_from_slice(&self.images[&span.image.id][span.range()]);
        }
        bytes.truncate(self.write_limit);
        self.sent.extend_from_slice(&bytes);
        self.connection.transmitted(bytes.len(), self.now).unwrap();
        !bytes.is_empty()
    }

    fn run(&mut self) -> &mut Scenario {
        self.feed();
        while self.write() {
            self.feed();
        }
        if self.connection.wants_finish() {
            self.half_closed = true;
            self.connection.finished(self.now).unwrap();
            self.feed();
        }
        self
    }

    fn eof(&mut self) -> &mut Scenario {
        self.connection.receive_eof();
        self.run()
    }

    fn wait(&mut self, time: Duration) -> &mut Scenario {
        self.now = self.now + time;
        self.connection.handle_timeout(self.now);
        self.run()
    }

    fn id(&self, n: u8) -> ImageId {
        ImageId::of(&[n; 100])
    }

    /// Removes and decodes the bytes that were sent: one text for each frame.
    fn frames(&mut self) -> Vec<String> {
        let sent = core::mem::take(&mut self.sent);
        let mut dissector = Dissector::server_to_client();
        let (mut rest, mut texts) = (&sent[..], Vec::new());
        while let Decoded::Complete { value, used } = dissector.decode(rest).unwrap() {
            rest = &rest[used..];
            texts.push(match value {
                Frame::Response { header, count } => format!("{header:?} {count}"),
                Frame::Entry(entry) => String::from(entry.name),
                Frame::Packet(_) => continue,
                Frame::Body(bytes) => format!("body {}", bytes[0]),
                Frame::NewImage(entry) => format!("JTPW {}", entry.name),
                Frame::Cancelled => "JTPC".into(),
                Frame::Error(error) => format!("JTPE {}", error.code),
                other => panic!("{other:?}"),
            });
        }
        assert!(rest.is_empty());
        texts
    }

    fn reason(&self) -> Option<CloseReason> {
        self.connection.close_reason()
    }
}

const LIST: &[u8] = &[1, 1];
const CANCEL: &[u8] = &[3, 0];
const WATCH: &[u8] = &[4, 0];
const GET_ALL: &[u8] = &[5, 1];

fn get(keep_alive: bool, ids: &[ImageId]) -> Vec<u8> {
    let mut bytes = vec![0, u8::from(keep_alive), u8::try_from(ids.len()).unwrap()];
    request::encode_ids(ids, &mut bytes);
    bytes
}

fn batch(keep_alive: bool, ids: &[ImageId]) -> Vec<u8> {
    let mut bytes = vec![2, u8::from(keep_alive)];
    varint::encode(u32::try_from(ids.len()).unwrap(), &mut bytes);
    request::encode_ids(ids, &mut bytes);
    bytes
}
