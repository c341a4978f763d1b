//! Each state machine alone against an arbitrary peer, with valid and invalid calls in any order.

use std::time::Duration;

use jtp_core::client::{ClientConfig, Request};
use jtp_core::server::ServerConfig;
use jtp_core::wire::request::{RequestHead, RequestKind, encode_ids};
use jtp_core::wire::response::{self, ErrorCode, ErrorFrame, Header};
use jtp_core::wire::{entry, packet};
use jtp_core::{Flags, Image, ImageId, Time};
use jtp_kit::Rng;

use super::client::Client;
use super::server::Server;
use super::store::Store;

/// A number up to `total`: in half of the cases `total` itself.
fn part(rng: &mut Rng, total: usize) -> usize {
    match rng.below(4) {
        0 | 1 => total,
        2 => total.min(1),
        _ => rng.below(total + 1),
    }
}

/// A server whose client sends requests and other bytes, and whose application makes `steps` calls.
pub(crate) fn server(steps: usize, rng: &mut Rng) {
    let changes = rng.below(6);
    let mut store = Store::new(changes, rng);
    let mut server = Server::random(rng, Time::ZERO);
    let mut latest = Time::ZERO;
    for _ in 0..steps {
        let now = if rng.one_in(16) { Time::ZERO } else { latest };
        match rng.below(24) {
            0..5 => {
                let request = request(&store, rng);
                let count = if rng.one_in(6) {
                    part(rng, request.len())
                } else {
                    request.len()
                };
                server.input.extend_from_slice(&request[..count]);
            }
            5..9 => drop(server.receive(part(rng, server.input.len()), now)),
            9..12 if server.is_deciding && rng.one_in(16) => {
                server.refuse(ErrorCode::RateLimited, now);
            }
            9..12 if server.is_deciding => server.accept(&store, now),
            12..15 => drop(server.load_some(&store, rng, now)),
            15..19 => drop(server.send(part(rng, server.offered.len()), now)),
            19 => drop(server.finish(now)),
            20 => {
                let millis = *rng.pick(&[1, 900, 11_000, 31_000, 400_000]);
                latest = latest + Duration::from_millis(millis);
                server.advance_time(latest);
            }
            21 => {
                store.change(rng);
                store.publish();
                server.catalog_changed(&store, now);
            }
            22 if rng.one_in(6) => server.end(),
            22 if rng.one_in(6) => server.shut_down(now),
            23 => server.misuse(&store, now),
            _ => {}
        }
    }
    exchange(&mut server, &store, &[], rng, latest);
}

/// A request, or other bytes.
fn request(store: &Store, rng: &mut Rng) -> Vec<u8> {
    if rng.one_in(10) {
        return (0..rng.below(6)).map(|_| rng.below(256u16) as u8).collect();
    }
    let ids: Vec<ImageId> = (0..rng.below(5)).map(|_| store.some_id(rng)).collect();
    let kind = rng.pick(&RequestKind::ALL).with_ids(ids.len() as u32);
    let mut bytes = Vec::new();
    RequestHead::new(kind, !rng.one_in(8)).encode(&mut bytes);
    bytes[1] |= u8::from(rng.one_in(8)); // Ignored on CANCEL and WATCH. // S10
    encode_ids(&ids[..kind.ids() as usize], &mut bytes);
    bytes
}

/// Passes `input` to a server and then the end of the stream, in random pieces, until the server has closed.
fn exchange(server: &mut Server, store: &Store, mut input: &[u8], rng: &mut Rng, now: Time) {
    let mut rounds = 0;
    while !server.machine.is_closed() {
        if server.machine.wants_read(&server.input) {
            let (piece, later) = input.split_at(part(rng, input.len()));
            server.input.extend_from_slice(piece);
            input = later;
        }
        if input.is_empty() && !server.has_ended {
            server.end();
        }
        while server.receive_all(now) {}
        if server.is_deciding {
            server.accept(store, now);
        }
        if server.machine.wants_body().is_some() {
            server.load(store, false, part(rng, 60_000) as u32, now);
        }
        server.send(part(rng, server.offered.len()), now);
        server.finish(now);
        rounds += 1;
        assert!(rounds < 10_000, "does not close: {server:?}");
    }
}

/// A server with these images receives any bytes, as a fuzz target: settings, choices, then the bytes.
pub(crate) fn server_bytes(images: &[(&str, &[u8])], data: &[u8]) {
    let (settings, data) = data.split_first().unwrap_or((&1, &[]));
    let (choices, input) = data.split_at(data.len().min(usize::from(settings >> 4)));
    let config = ServerConfig::new()
        .with_watch(settings % 8 != 0)
        .with_max_have(1_000);
    let mut rng = Rng::of_bytes(choices);
    let mut server = Server::new(config, Time::ZERO);
    exchange(&mut server, &Store::of(images), input, &mut rng, Time::ZERO);
    // A closed connection stays closed.
    server.input = vec![1, 1];
    assert!(!server.receive_all(Time::ZERO));
    server.shut_down(Time::ZERO);
    server.advance_time(Time::ZERO);
}

/// The settings of a client with low limits.
fn low_limits(pipeline: bool) -> ClientConfig {
    let config = ClientConfig::new()
        .with_pipeline(pipeline)
        .with_max_image_size(400)
        .with_max_window(1 << 16);
    let limits = (config.pipeline(), config.max_image_size());
    assert_eq!(limits, (pipeline, 400));
    config
}

/// The images of which the bytes of a client's server consist. The last one is over the client's limit.
const IMAGES: [(&str, &[u8]); 4] = [
    ("a.png", b""),
    ("b.png", b"1"),
    ("c.png", &[7; 20]),
    ("d.png", &[7; 500]),
];

/// A client whose server sends responses and other bytes, and whose application makes `steps` calls.
pub(crate) fn client(steps: usize, rng: &mut Rng) {
    let store = Store::of(&IMAGES);
    let mut client = Client::new(low_limits(rng.one_in(2)), Time::ZERO);
    let (mut latest, mut input) = (Time::ZERO, Vec::new());
    for _ in 0..steps {
        let now = if rng.one_in(16) { Time::ZERO } else { latest };
        match rng.below(16) {
            0..3 => {
                let kind = *rng.pick(&RequestKind::ALL);
                let ids = match kind {
                    // Longer than the window of output.
                    RequestKind::Batch { .. } if rng.one_in(2) => (0..2_500).map(ImageId).collect(),
                    _ => (0..rng.below(5)).map(|_| store.some_id(rng)).collect(),
                };
                // CANCEL is a call of its own.
                let request = Request::of(kind, ids).unwrap_or(Request::List);
                client.request(&request, !rng.one_in(8), now);
            }
            3 => drop(client.cancel(now)),
            4 | 5 => drop(client.send(part(rng, client.offered.len()), now)),
            6..11 => frame(&store, client.model.asked(), rng, &mut input),
            11..14 => {
                client.undecoded = rng.one_in(3);
                let count = part(rng, input.len());
                let (used, _) = client.receive(&input[..count], now);
                input.drain(..used);
                // Perhaps before the last events of the response.
                if input.is_empty() && rng.one_in(20) {
                    client.end(now);
                }
            }
            14 => {
                let millis = *rng.pick(&[1, 5_000, 61_000]);
                latest = latest + Duration::from_millis(millis);
                client.advance_time(latest);
            }
            _ if rng.one_in(12) => client.end(now),
            _ if rng.one_in(12) => client.machine.wait(now),
            _ => client.misuse(now),
        }
    }
    client.receive_all(&input, latest);
    client.end(latest);
    client.receive_all(&[], latest);
}

/// A frame that a server may send: often the header that answers the request, but also others.
fn frame(store: &Store, asked: Option<u8>, rng: &mut Rng, out: &mut Vec<u8>) {
    let image = store.some_image(rng);
    let kind = asked.map(|code| RequestKind::ALL[usize::from(code)]);
    let header = match kind.and_then(|kind| Request::of(kind, Vec::new())) {
        Some(request) if rng.one_in(2) => request.kind().header(),
        _ => *rng.pick(&Header::ALL),
    };
    match rng.below(12) {
        0..6 => match header {
            Header::Data => response::encode_data_head(rng.below(4), out),
            header if header.has_varint() => response::encode_head(header, rng.below(4), out),
            header => out.extend_from_slice(&header.bytes()),
        },
        6 | 7 => {
            let name = rng.pick(&["", "a.png", "../e\u{301}"]);
            let flags = Flags::from_bits(rng.below(20));
            let entry = entry::Entry::new(name, Image::new(image.id, flags, rng.below(9)));
            entry::encode(&entry, out).unwrap();
        }
        8 | 9 => {
            let id = if rng.one_in(8) { ImageId(1) } else { image.id };
            let flags = if rng.one_in(8) {
                Flags::from_bits(rng.below(40))
            } else {
                image.flags
            };
            packet::encode_head(&Image::new(id, flags, image.length), out);
            out.extend_from_slice(store.wire(image));
        }
        10 if rng.one_in(4) => ErrorFrame::new(ErrorCode::ServerError, "no").encode(out),
        _ if rng.one_in(4) => out.extend((0..rng.below(8)).map(|_| rng.below(256u16) as u8)),
        _ => {}
    }
}

/// A client with outstanding requests receives any bytes, as a fuzz target: settings, requests, choices, then the bytes.
pub(crate) fn client_bytes(images: &[(&str, &[u8])], data: &[u8]) {
    let (settings, data) = data.split_first().unwrap_or((&0, &[]));
    let (requests, data) = data.split_at(data.len().min(usize::from(settings >> 1 & 3)));
    let (choices, mut input) = data.split_at(data.len().min(4));
    let mut client = Client::new(low_limits(settings & 1 != 0), Time::ZERO);
    client.undecoded = settings & 0x40 != 0;
    for choice in requests {
        client.request(&some_request(images, *choice), true, Time::ZERO);
    }
    if settings & 0x10 != 0 {
        client.cancel(Time::ZERO);
    }
    let mut rng = Rng::of_bytes(choices);
    while !input.is_empty() && !client.has_ended {
        client.send(part(&mut rng, client.offered.len()), Time::ZERO);
        let (piece, later) = input.split_at(part(&mut rng, input.len()));
        client.receive_all(piece, Time::ZERO);
        input = later;
    }
    client.end(Time::ZERO);
    client.receive_all(b"JTPC", Time::ZERO);
    client.advance_time(Time::since_epoch(Duration::from_secs(1 << 40)));
    assert!(!client.request(&Request::List, true, Time::ZERO) && !client.cancel(Time::ZERO));
}

/// A request from one byte: its type, and bits that select IDs.
fn some_request(images: &[(&str, &[u8])], choice: u8) -> Request {
    let ids = images
        .iter()
        .map(|(_, bytes)| ImageId::of(bytes))
        .chain([ImageId(7)]);
    let chosen = ids
        .enumerate()
        .filter(|(bit, _)| choice >> (3 + bit) & 1 != 0);
    let mut ids: Vec<ImageId> = chosen.map(|(_, id)| id).collect();
    if choice & 7 == 7 {
        ids = ids.repeat(2); // The same image twice. // S7
    }
    let kind = RequestKind::ALL.get(usize::from(choice & 7)).copied();
    let kind = kind.unwrap_or(RequestKind::GetById { count: 0 });
    // CANCEL is a call of its own.
    Request::of(kind, ids).unwrap_or(Request::List)
}
