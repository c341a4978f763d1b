//! A client connection with outstanding requests receives any bytes. The events follow their grammar and the
//! announced counts, bodies stay within their limits and match their verdict, and an error is final.

use std::time::Duration;

use jtp_core::client::{
    ClientConfig, ClientConnection, ClientError, Event, HaveSet, Request, ResponseKind,
};
use jtp_core::wire::Decoded;
use jtp_core::wire::request::{self, RequestHead, RequestKind};
use jtp_core::{BodyReceiver, Image, ImageHasher, ImageId, Time};

use crate::{ByteReader, IMAGES};

/// The maximum image size of the client.
pub const MAX_IMAGE: u64 = 400;

/// The maximum Zstd window.
const MAX_WINDOW: u32 = 1 << 16;

pub fn config(pipeline: bool) -> ClientConfig {
    ClientConfig::new()
        .with_pipeline(pipeline)
        .with_max_image_size(MAX_IMAGE)
        .with_max_window(MAX_WINDOW)
}

/// A request from one byte.
pub fn request(choice: u8) -> Request {
    let ids = |mask: u8| {
        let mut ids: Vec<ImageId> = IMAGES
            .into_iter()
            .map(|(_, bytes)| ImageId::of(bytes))
            .collect();
        ids.push(ImageId(7));
        let mut bit = 0;
        ids.retain(|_| {
            bit += 1;
            mask >> (bit - 1) & 1 != 0
        });
        ids
    };
    match choice & 7 {
        0 => Request::List,
        1 => Request::GetById(ids(choice >> 3)),
        2 => Request::GetById([ids(choice >> 3), ids(choice >> 3)].concat()),
        3 => Request::Batch(HaveSet::try_from(ids(choice >> 3)).unwrap()),
        4 => Request::ListAndGet,
        5 => Request::Watch,
        // CANCEL is not requested here.
        code => RequestKind::ALL
            .get(usize::from(code))
            .and_then(|kind| Request::of(*kind, ids(choice >> 3)))
            .unwrap_or(Request::GetById(Vec::new())),
    }
}

/// Position within the events of a response.
#[derive(Debug)]
enum Position {
    Between,
    Within {
        kind: ResponseKind,
        left: u32,
    },
    Image {
        kind: ResponseKind,
        left: u32,
        image: Image,
        hasher: ImageHasher,
        length: u64,
    },
    /// An image left undecoded by the connection and decoded here.
    Packet {
        kind: ResponseKind,
        left: u32,
        body: Box<BodyReceiver>,
        length: u32,
    },
}

pub fn run(data: &[u8]) {
    let mut reader = ByteReader(data);
    let settings = reader.byte();
    let mut client = ClientConnection::new(config(settings & 1 != 0), Time::ZERO);
    let (mut requested, mut sent, mut cancels, mut responses) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..settings >> 1 & 3 {
        let request = request(reader.byte());
        if client.request(request.clone(), true, Time::ZERO).is_ok() {
            requested.push(request);
        }
        send(&mut client, &mut sent);
    }
    if settings & 0x10 != 0 && client.cancel(Time::ZERO).is_ok() {
        cancels += 1;
    }
    if settings & 0x20 == 0 {
        send(&mut client, &mut sent);
    }
    let mut input = reader.0;
    let mut at = Position::Between;
    let fault = loop {
        let before = input.len();
        let received = match client.receive(input, Time::ZERO) {
            Ok(received) => received,
            Err(fault) => break Some(fault),
        };
        input = &input[received.used..];
        let Some(event) = received.event else {
            assert!(input.is_empty());
            break None;
        };
        at = next(at, event, before - input.len(), &mut responses);
        at = match at {
            Position::Image {
                kind, left, image, ..
            } if settings & 0x40 != 0 && client.leave_undecoded().is_ok() => {
                let mut body = Box::new(BodyReceiver::new(MAX_IMAGE, MAX_WINDOW));
                body.begin(image);
                Position::Packet {
                    kind,
                    left,
                    body,
                    length: 0,
                }
            }
            at => at,
        };
        // Requests that were held back may be sent now.
        send(&mut client, &mut sent);
    };
    assert!(responses <= requested.len(), "more responses than requests");
    assert!(client.outstanding() <= requested.len());
    check_sent(&sent, &requested, cancels);
    let fault = fault.or_else(|| client.receive_eof(Time::ZERO).err());
    let done = matches!(at, Position::Between);
    match fault {
        None => {
            let outstanding = client.outstanding();
            assert!(
                outstanding <= 1,
                "EOF accepted with {outstanding} outstanding requests"
            );
            // The last events may still be pending.
            while client.receive(&[], Time::ZERO).unwrap().event.is_some() {}
            assert_eq!(client.outstanding(), 0);
            assert!(client.is_idle() || cancels == 0);
        }
        Some(fault) => {
            assert!(done || !matches!(fault, ClientError::TimedOut));
            check_sticky(&mut client, &fault);
        }
    }
}

fn send(client: &mut ClientConnection, sent: &mut Vec<u8>) {
    sent.extend_from_slice(client.transmit());
    let length = client.transmit().len();
    client.transmitted(length, Time::ZERO).unwrap();
}

/// The client sends each request once, in order, and at most as many CANCELs as it accepted.
fn check_sent(mut sent: &[u8], requested: &[Request], cancels: usize) {
    let (mut requested, mut cancelled) = (requested.iter(), 0);
    while let Ok(Decoded::Complete { value: head, used }) = RequestHead::decode(sent) {
        sent = &sent[used..];
        if head.kind == RequestKind::Cancel {
            cancelled += 1;
            continue;
        }
        let request = requested.next().expect("an unrequested request");
        assert_eq!(head.kind, request.wire_kind());
        let ids = request.ids();
        let mut expected = Vec::new();
        request::encode_ids(ids, &mut expected);
        assert_eq!(head.kind.ids() as usize, ids.len());
        sent = sent.strip_prefix(&expected[..]).expect("the request's IDs");
    }
    assert!(sent.is_empty(), "an incomplete request");
    assert!(cancelled <= cancels, "an unrequested CANCEL");
}

/// Checks an event against the grammar.
fn next(at: Position, event: Event<'_>, used: usize, responses: &mut usize) -> Position {
    match (at, event) {
        (Position::Between, Event::Begin { kind, count }) => {
            assert_ne!(kind, ResponseKind::Watch);
            assert!(
                kind != ResponseKind::GetById || count <= 10,
                "more images than requested"
            );
            Position::Within { kind, left: count }
        }
        (Position::Between, Event::NewImage(entry)) => {
            assert!(entry.flags.bits() < 16 && entry.name.len() <= 3 * 65_535);
            Position::Between
        }
        (Position::Between, Event::Cancelled { kind }) => {
            // After a WATCH, after a complete response, or in place of a response.
            *responses += usize::from(kind == ResponseKind::Watch);
            Position::Between
        }
        (
            Position::Within {
                kind: ResponseKind::List,
                left,
            },
            Event::Entry(entry),
        ) if left > 0 => {
            assert!(entry.flags.bits() < 16);
            Position::Within {
                kind: ResponseKind::List,
                left: left - 1,
            }
        }
        (Position::Within { kind, left }, Event::Image(image))
            if left > 0 && kind != ResponseKind::List =>
        {
            assert!(!image.flags.has_reserved());
            Position::Image {
                kind,
                left: left - 1,
                image,
                hasher: ImageHasher::new(),
                length: 0,
            }
        }
        (Position::Within { kind, left }, Event::Cancelled { kind: cancelled }) => {
            assert!(kind == cancelled && kind != ResponseKind::List && left > 0);
            *responses += 1;
            Position::Between
        }
        (Position::Within { kind, left: 0 }, Event::End { kind: ended }) => {
            assert_eq!(kind, ended);
            *responses += 1;
            Position::Between
        }
        (
            Position::Packet {
                kind,
                left,
                mut body,
                length,
            },
            Event::Data(data),
        ) => {
            assert!(!data.is_empty());
            let (length, mut rest) = (length + data.len() as u32, data);
            while !rest.is_empty() {
                let piece = body.receive(rest);
                assert!(piece.used > 0, "more than the packet's data");
                rest = &rest[piece.used..];
            }
            Position::Packet {
                kind,
                left,
                body,
                length,
            }
        }
        (
            Position::Packet {
                kind,
                left,
                body,
                length,
            },
            Event::PacketEnd { image },
        ) => {
            assert_eq!(length, image.length);
            assert!(body.verdict().is_some());
            Position::Within { kind, left }
        }
        (
            Position::Image {
                kind,
                left,
                image,
                mut hasher,
                length,
            },
            Event::Data(data),
        ) => {
            assert!(!data.is_empty());
            hasher.update(data);
            let length = length + data.len() as u64;
            assert!(length <= MAX_IMAGE, "R4: over the limit");
            Position::Image {
                kind,
                left,
                image,
                hasher,
                length,
            }
        }
        (
            Position::Image {
                kind, left, hasher, ..
            },
            Event::ImageEnd { image, verdict },
        ) => {
            assert!(
                verdict.is_err() || hasher.id() == image.id,
                "R2: a wrong image was accepted"
            );
            Position::Within { kind, left }
        }
        (at, event) => panic!("{event:?} in {at:?}, {used} bytes"),
    }
}

fn check_sticky(client: &mut ClientConnection, fault: &ClientError) {
    let late = Time::since_epoch(Duration::from_secs(1 << 40));
    assert!(client.transmit().is_empty() && client.deadline().is_none());
    assert!(!client.is_idle() && !client.is_reusable());
    assert_eq!(client.receive(b"JTPC", late).unwrap_err(), *fault);
    assert_eq!(client.receive_eof(late).unwrap_err(), *fault);
    assert_eq!(client.handle_timeout(late).unwrap_err(), *fault);
    assert!(client.request(Request::List, true, late).is_err() && client.cancel(late).is_err());
    assert_eq!(client.fault(), Some(fault));
}
