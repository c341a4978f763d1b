//! What the core is measured at: in time (`cargo bench -p jtp-core`) and in instructions (`benches/instructions`).
#![allow(dead_code, reason = "each program measures a part of it")]

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

/// What a socket gives at once.
const READ: usize = 256 * 1024;

/// Numbers without a pattern, always the same ones.
fn id(n: u32) -> ImageId {
    // SplitMix64, each step of which is one to one: no ID comes twice.
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

/// A thing to measure: it does its work once at each call, and says how many bytes it was about.
pub(crate) type Work = Box<dyn FnMut() -> usize>;

/// Makes it ready, for large catalogs of so many images.
pub(crate) type Prepare = fn(u32) -> Work;

/// All of it, by name.
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

/// How fast it could be: the bytes of a LIST of that scale copied as a socket would.
pub(crate) fn copy(scale: u32) -> Work {
    let bytes = listed(&catalog(scale));
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

/// The length of a frame that is there as a whole.
fn length<T>(decoded: DecodeResult<T>) -> usize {
    match decoded.map(black_box) {
        Ok(Decoded::Complete { used, .. }) => used,
        _ => panic!("a whole frame decodes"),
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

fn listed(catalog: &Catalog) -> Vec<u8> {
    catalog.list().flatten().copied().collect()
}

/// Lets a server answer a request, its output copied as a socket would; how many bytes that was.
fn answer(catalog: &Arc<Catalog>, request: &[u8], socket: &mut [u8]) -> usize {
    let mut server = ServerConnection::new(ServerConfig::new(), NOW);
    let mut unread = request;
    let mut sent = 0;
    loop {
        let taken = unread.len().min(READ);
        let received = server.receive(&unread[..taken], NOW);
        unread = &unread[received.used..];
        if received.event.is_some() {
            server.accept(catalog, NOW).unwrap();
        }
        while let Some(wanted) = server.wants_body() {
            let length = wanted.remaining();
            server.body_loaded(length, NOW).unwrap();
            sent += send(&mut server, socket);
        }
        let now = send(&mut server, socket);
        sent += now;
        if received.used == 0 && now == 0 {
            return sent;
        }
    }
}

fn send(server: &mut ServerConnection, socket: &mut [u8]) -> usize {
    let mut sent = 0;
    loop {
        let shown = server.transmit();
        if shown.is_empty() {
            return sent;
        }
        let frames = shown.bytes.len().min(socket.len());
        socket[..frames].copy_from_slice(&shown.bytes[..frames]);
        // The bodies are the store's, and copying them is not what is measured.
        let count = if frames < shown.bytes.len() {
            frames
        } else {
            shown.len()
        };
        black_box(&socket);
        server.transmitted(count, NOW).unwrap();
        sent += count;
    }
}

/// Lets a client make a request and take the answer; how many bytes that was.
fn take(request: Request, answer: &[u8]) -> usize {
    let mut client = ClientConnection::new(ClientConfig::new(), NOW);
    client.request(request, true, NOW).unwrap();
    while !client.transmit().is_empty() {
        client.transmitted(client.transmit().len(), NOW).unwrap();
    }
    let mut at = 0;
    while !client.is_idle() {
        let end = answer.len().min(at + READ);
        let received = client.receive(&answer[at..end], NOW).unwrap();
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
    Box::new(move || answer(&catalog, &[1, 1], &mut socket))
}

fn receive_list(scale: u32) -> Work {
    let bytes = listed(&catalog(scale));
    Box::new(move || take(Request::List, &bytes))
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
        let sent = answer(&catalog, &request, &mut socket);
        assert_eq!(sent, 5, "nothing is missing");
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
    Box::new(move || answer(&catalog, &[5, 1], &mut socket))
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
    Box::new(move || take(Request::ListAndGet, &bytes))
}

/// Photographs do not compress and are not compressed; what is, is like this: runs and gradients.
fn pixels() -> Vec<u8> {
    let pixel = |n: u32| u8::try_from((n / 3 / 16 + (id(n / 48).0 % 3) as u32) % 256).unwrap();
    (0..8 << 20).map(pixel).collect()
}

pub(crate) fn receive_body(compressed: bool) -> Work {
    let raw = pixels();
    let packed = if compressed {
        zstd::bulk::compress(&raw, 1).unwrap()
    } else {
        raw.clone()
    };
    let image = Image::new(
        ImageId::of(&raw),
        Flags::new(FileType::Bmp, compressed),
        u32::try_from(packed.len()).unwrap(),
    );
    let mut body = BodyReceiver::new(DEFAULT_MAX_IMAGE_SIZE, DEFAULT_MAX_WINDOW);
    Box::new(move || {
        body.begin(image);
        let mut at = 0;
        while body.verdict().is_none() {
            let end = packed.len().min(at + READ);
            let piece = body.receive(&packed[at..end]);
            at += black_box(piece).used;
        }
        body.verdict().unwrap().unwrap();
        raw.len()
    })
}
