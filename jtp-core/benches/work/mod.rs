//! The measured work, for time (`cargo bench -p jtp-core`) and instruction counts (`.ci/instructions`).
#![allow(dead_code, reason = "each program uses a part of it")]

use std::hint::black_box;
use std::sync::Arc;

use jtp_core::client::{ClientConfig, ClientConnection, Event, HaveSet, Request};
use jtp_core::server::{ServerConfig, ServerConnection};
use jtp_core::wire::entry::{self, Entry};
use jtp_core::wire::request::{RequestHead, RequestKind, encode_ids};
use jtp_core::wire::response::{self, ErrorCode, ErrorFrame, Header};
use jtp_core::wire::{DecodeResult, Decoded, packet};
use jtp_core::{
    BodyReceiver, Catalog, CatalogWriter, DEFAULT_MAX_IMAGE_SIZE, DEFAULT_MAX_WINDOW, FileType,
    Flags, Image, ImageId, Time,
};

const NOW: Time = Time::ZERO;

/// Maximum number of bytes of one socket read or write.
const READ: usize = 256 * 1024;

/// Deterministic IDs without a pattern.
fn id(n: u32) -> ImageId {
    // SplitMix64. Each step is a bijection, so all IDs differ.
    let mut z = u64::from(n)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ImageId(z ^ (z >> 31))
}

fn image(n: u32) -> Image {
    Image::new(id(n), Flags::new(FileType::Png, false), 1_000 + n % 9_000)
}

/// A measured function: each call does the work once and returns the number of bytes processed.
pub(crate) type Work = Box<dyn FnMut() -> usize>;

/// Prepares the work. The argument is the number of images of large catalogs.
pub(crate) type Prepare = fn(u32) -> Work;

/// All work, by name.
pub(crate) const ALL: [(&str, Prepare); 16] = [
    ("encode 1,000 request heads", |_| encoding(request_head)),
    ("encode 1,000 packet heads", |_| encoding(packet_head)),
    ("encode 1,000 entries", |_| encoding(list_entry)),
    ("encode 1,000 errors", |_| encoding(error)),
    ("decode 1,000 request heads", |_| {
        decoding(request_head, |bytes| length(RequestHead::decode(bytes)))
    }),
    ("decode 1,000 packet heads", |_| {
        decoding(packet_head, |bytes| length(packet::decode_head(bytes)))
    }),
    ("decode 1,000 entries", |_| {
        decoding(list_entry, |bytes| length(entry::decode(bytes)))
    }),
    ("decode 1,000 errors", |_| decoding(error, error_length)),
    ("catalog: build and encode", build),
    ("LIST: serve", serve_list),
    ("LIST: receive", receive_list),
    ("BATCH of all: send", send_batch),
    ("BATCH of all: serve", serve_batch),
    ("10,000 images of 4 KB: serve", |_| serve_images()),
    ("10,000 images of 4 KB: receive", |_| receive_images()),
    ("8 MiB: receive", |_| receive_body(false)),
];

/// The upper bound: copies the bytes of a LIST in pieces, as a socket would.
pub(crate) fn copy(scale: u32) -> Work {
    let bytes = list_bytes(&catalog(scale));
    let mut socket = vec![0; READ];
    Box::new(move || {
        for piece in bytes.chunks(READ) {
            socket[..piece.len()].copy_from_slice(black_box(piece));
            black_box(&socket);
        }
        bytes.len()
    })
}

fn request_head(n: u32, out: &mut Vec<u8>) {
    let kind = RequestKind::Batch { have: n << 4 };
    let keep_alive = true;
    RequestHead::new(kind, keep_alive).encode(out);
}

fn packet_head(n: u32, out: &mut Vec<u8>) {
    packet::encode_head(&image(n), out);
}

fn list_entry(n: u32, out: &mut Vec<u8>) {
    let entry = Entry::new("a photograph of a lake.jpg", image(n));
    entry::encode(&entry, out).unwrap();
}

fn error(_: u32, out: &mut Vec<u8>) {
    let error = ErrorFrame::new(ErrorCode::ServerError, "an image cannot be read");
    error.encode(out);
}

fn error_length(input: &[u8]) -> usize {
    let head = length(Header::decode(input));
    head + length(ErrorFrame::decode_body(&input[head..]))
}

fn encoding(encode: fn(u32, &mut Vec<u8>)) -> Work {
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        for n in 0..1_000 {
            encode(black_box(n), &mut out);
        }
        black_box(&out).len()
    })
}

fn decoding(encode: fn(u32, &mut Vec<u8>), decode: fn(&[u8]) -> usize) -> Work {
    let mut bytes = Vec::new();
    for n in 0..1_000 {
        encode(n, &mut bytes);
    }
    Box::new(move || {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            rest = &rest[decode(black_box(rest))..];
        }
        bytes.len()
    })
}

/// The length of a complete frame.
fn length<T>(decoded: DecodeResult<T>) -> usize {
    match decoded.map(black_box) {
        Ok(Decoded::Complete { used, .. }) => used,
        _ => panic!("not a complete frame"),
    }
}

fn build(scale: u32) -> Work {
    let names: Vec<String> = (0..scale).map(|n| format!("image-{n:07}.png")).collect();
    Box::new(move || {
        let mut writer = CatalogWriter::new();
        for (n, name) in (0..).zip(&names) {
            writer.insert(name, image(n)).unwrap();
        }
        writer.publish().list().map(<[u8]>::len).sum()
    })
}

fn catalog(images: u32) -> Arc<Catalog> {
    let mut writer = CatalogWriter::new();
    for n in 0..images {
        writer
            .insert(&format!("image-{n:07}.png"), image(n))
            .unwrap();
    }
    writer.publish()
}

fn list_bytes(catalog: &Catalog) -> Vec<u8> {
    catalog.list().flatten().copied().collect()
}

/// Runs a server that answers a request, and copies its output as a socket would. Returns the number of bytes sent.
fn respond(catalog: &Arc<Catalog>, request: &[u8], socket: &mut [u8]) -> usize {
    let mut server = ServerConnection::new(ServerConfig::new(), NOW);
    let mut unread = request;
    let mut sent = 0;
    loop {
        let length = unread.len().min(READ);
        let received = server.receive(&unread[..length], NOW);
        unread = &unread[received.used..];
        if received.event.is_some() {
            server.accept(catalog, NOW).unwrap();
        }
        while let Some(wanted) = server.wants_body() {
            let length = wanted.remaining();
            server.body_loaded(length, NOW).unwrap();
            sent += send(&mut server, socket);
        }
        let sent_now = send(&mut server, socket);
        sent += sent_now;
        if received.used == 0 && sent_now == 0 {
            return sent;
        }
    }
}

fn send(server: &mut ServerConnection, socket: &mut [u8]) -> usize {
    let mut sent = 0;
    loop {
        let output = server.transmit();
        if output.is_empty() {
            return sent;
        }
        let frames = output.bytes.len().min(socket.len());
        socket[..frames].copy_from_slice(&output.bytes[..frames]);
        // Bodies come from the store; copying them is not measured.
        let count = if frames < output.bytes.len() {
            frames
        } else {
            output.len()
        };
        black_box(&socket);
        server.transmitted(count, NOW).unwrap();
        sent += count;
    }
}

/// Runs a client that makes a request and receives the response. Returns the length of the response.
fn receive(request: Request, response: &[u8]) -> usize {
    let mut client = ClientConnection::new(ClientConfig::new(), NOW);
    client.request(request, true, NOW).unwrap();
    while !client.transmit().is_empty() {
        client.transmitted(client.transmit().len(), NOW).unwrap();
    }
    let mut at = 0;
    while !client.is_idle() {
        let end = response.len().min(at + READ);
        let received = client.receive(&response[at..end], NOW).unwrap();
        at += received.used;
        if let Some(Event::ImageEnd { verdict, .. }) = received.event {
            verdict.unwrap();
        }
    }
    at
}

fn serve_list(scale: u32) -> Work {
    let catalog = catalog(scale);
    let mut socket = vec![0; READ];
    Box::new(move || respond(&catalog, &[1, 1], &mut socket))
}

fn receive_list(scale: u32) -> Work {
    let bytes = list_bytes(&catalog(scale));
    Box::new(move || receive(Request::List, &bytes))
}

fn send_batch(scale: u32) -> Work {
    let have = HaveSet::try_from_iter((0..scale).map(id)).unwrap();
    Box::new(move || {
        let mut client = ClientConnection::new(ClientConfig::new(), NOW);
        client
            .request(Request::Batch(have.clone()), true, NOW)
            .unwrap();
        let mut sent = 0;
        while !client.transmit().is_empty() {
            let count = black_box(client.transmit()).len();
            client.transmitted(count, NOW).unwrap();
            sent += count;
        }
        sent
    })
}

fn serve_batch(scale: u32) -> Work {
    let catalog = catalog(scale);
    let mut request = Vec::new();
    let kind = RequestKind::Batch { have: scale };
    let keep_alive = true;
    RequestHead::new(kind, keep_alive).encode(&mut request);
    encode_ids(&(0..scale).map(id).collect::<Vec<_>>(), &mut request);
    let mut socket = vec![0; READ];
    Box::new(move || {
        let sent = respond(&catalog, &request, &mut socket);
        assert_eq!(sent, 5, "no image is missing");
        request.len()
    })
}

const SMALL: [u8; 4_000] = [0x5a; 4_000];

fn serve_images() -> Work {
    let mut writer = CatalogWriter::new();
    for n in 0..10_000 {
        let Image { id, flags, .. } = image(n);
        let image = Image::new(id, flags, 4_000);
        writer.insert(&format!("image-{n:07}.png"), image).unwrap();
    }
    let catalog = writer.publish();
    let mut socket = vec![0; READ];
    Box::new(move || respond(&catalog, &[5, 1], &mut socket))
}

fn receive_images() -> Work {
    let mut bytes = Vec::new();
    response::encode_head(Header::ListAndGet, 10_000, &mut bytes);
    for n in 0_u32..10_000 {
        let mut body = SMALL;
        body[..4].copy_from_slice(&n.to_be_bytes());
        let image = Image::new(ImageId::of(&body), Flags::new(FileType::Png, false), 4_000);
        packet::encode_head(&image, &mut bytes);
        bytes.extend_from_slice(&body);
    }
    Box::new(move || receive(Request::ListAndGet, &bytes))
}

/// Pixels that compress: runs and gradients. Photographs are not compressed.
fn pixels() -> Vec<u8> {
    let pixel = |n: u32| u8::try_from((n / 3 / 16 + (id(n / 48).0 % 3) as u32) % 256).unwrap();
    (0..8 << 20).map(pixel).collect()
}

pub(crate) fn receive_body(compressed: bool) -> Work {
    let raw = pixels();
    let wire = if compressed {
        zstd::bulk::compress(&raw, 1).unwrap()
    } else {
        raw.clone()
    };
    let image = Image::new(
        ImageId::of(&raw),
        Flags::new(FileType::Bmp, compressed),
        u32::try_from(wire.len()).unwrap(),
    );
    let mut body = BodyReceiver::new(DEFAULT_MAX_IMAGE_SIZE, DEFAULT_MAX_WINDOW);
    Box::new(move || {
        body.begin(image);
        let mut at = 0;
        while body.verdict().is_none() {
            let end = wire.len().min(at + READ);
            let piece = body.receive(&wire[at..end]);
            at += black_box(piece).used;
        }
        body.verdict().unwrap().unwrap();
        raw.len()
    })
}
