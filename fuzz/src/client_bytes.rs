//! A client's connection fed any bytes, with requests outstanding: whatever comes, the events keep their
//! grammar and the peer's counts, bodies keep their limits and are what their verdict says, and an error is
//! the last thing that happens.

use std::time::Duration;

use jtp_core::client::{
    ClientConfig, ClientConnection, ClientError, Event, HaveSet, Request, ResponseKind,
};
use jtp_core::wire::Decoded;
use jtp_core::wire::request::{self, RequestHead, RequestKind};
use jtp_core::{BodyReceiver, Image, ImageHasher, ImageId, Time};

use crate::{Choices, IMAGES};

/// The largest image that the client takes here.
pub const MAX_IMAGE: u64 = 400;

/// And the largest window.
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
        _ => Request::GetById(Vec::new()),
    }
}

/// Where in a response the events are.
#[derive(Debug)]
enum At {
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
    /// An image that is decoded here.
    Packet {
        kind: ResponseKind,
        left: u32,
        body: Box<BodyReceiver>,
        length: u32,
    },
}

pub fn run(data: &[u8]) {
    let mut choices = Choices(data);
    let settings = choices.byte();
    let mut client = ClientConnection::new(config(settings & 1 != 0), Time::ZERO);
    let (mut asked, mut sent, mut cancels, mut answers) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..settings >> 1 & 3 {
        let request = request(choices.byte());
        if client.request(request.clone(), true, Time::ZERO).is_ok() {
            asked.push(request);
        }
        send(&mut client, &mut sent);
    }
    if settings & 0x10 != 0 && client.cancel(Time::ZERO).is_ok() {
        cancels += 1;
    }
    if settings & 0x20 == 0 {
        send(&mut client, &mut sent);
    }
    let mut input = choices.0;
    let mut at = At::Between;
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
        at = next(at, event, before - input.len(), &mut answers);
        at = match at {
            At::Image {
                kind, left, image, ..
            } if settings & 0x40 != 0 && client.leave_undecoded().is_ok() => {
                let mut body = Box::new(BodyReceiver::new(MAX_IMAGE, MAX_WINDOW));
                body.begin(image);
                At::Packet {
                    kind,
                    left,
                    body,
                    length: 0,
                }
            }
            at => at,
        };
        // What is held back can go now.
        send(&mut client, &mut sent);
    };
    assert!(answers <= asked.len(), "more answers than requests");
    assert!(client.outstanding() <= asked.len());
    check_sent(&sent, &asked, cancels);
    let fault = fault.or_else(|| client.receive_eof(Time::ZERO).err());
    let done = matches!(at, At::Between);
    match fault {
        None => {
            let waits = client.outstanding();
            assert!(waits <= 1, "an end, and {waits} requests are open");
            // The last event may still be there to be fetched.
            while client.receive(&[], Time::ZERO).unwrap().event.is_some() {}
            assert_eq!(client.outstanding(), 0);
            assert!(client.is_idle() || cancels == 0);
        }
        Some(fault) => {
            assert!(done || !matches!(fault, ClientError::TimedOut));
            sticky(&mut client, &fault);
        }
    }
}

fn send(client: &mut ClientConnection, sent: &mut Vec<u8>) {
    sent.extend_from_slice(client.transmit());
    let shown = client.transmit().len();
    client.transmitted(shown, Time::ZERO).unwrap();
}

/// Whatever comes, a client sends the requests that were made, in order and each once, and no more CANCELs
/// than it agreed to.
fn check_sent(mut sent: &[u8], asked: &[Request], cancels: usize) {
    let (mut asked, mut cancelled) = (asked.iter(), 0);
    while let Ok(Decoded::Complete { value: head, used }) = RequestHead::decode(sent) {
        sent = &sent[used..];
        if head.kind == RequestKind::Cancel {
            cancelled += 1;
            continue;
        }
        let ids = match (asked.next().expect("more than was asked"), head.kind) {
            (Request::GetById(ids), RequestKind::GetById { .. }) => &ids[..],
            (Request::Batch(have), RequestKind::Batch { .. }) => have.as_slice(),
            (Request::List, RequestKind::List)
            | (Request::ListAndGet, RequestKind::ListAndGet)
            | (Request::Watch, RequestKind::Watch) => &[],
            (asked, kind) => panic!("{kind:?} for {asked:?}"),
        };
        let mut due = Vec::new();
        request::encode_ids(ids, &mut due);
        assert_eq!(head.kind.ids() as usize, ids.len());
        sent = sent.strip_prefix(&due[..]).expect("the request's IDs");
    }
    assert!(sent.is_empty(), "half a request");
    assert!(cancelled <= cancels, "a CANCEL that nobody asked for");
}

/// The grammar of events.
fn next(at: At, event: Event<'_>, used: usize, answers: &mut usize) -> At {
    match (at, event) {
        (At::Between, Event::Begin { kind, count }) => {
            assert_ne!(kind, ResponseKind::Watch);
            assert!(
                kind != ResponseKind::GetById || count <= 10,
                "more than was asked for"
            );
            At::Within { kind, left: count }
        }
        (At::Between, Event::NewImage(entry)) => {
            assert!(entry.flags.bits() < 16 && entry.name.len() <= 3 * 65_535);
            At::Between
        }
        (At::Between, Event::Cancelled { kind }) => {
            // After a WATCH, or a response that was complete, or in place of one.
            *answers += usize::from(kind == ResponseKind::Watch);
            At::Between
        }
        (
            At::Within {
                kind: ResponseKind::List,
                left,
            },
            Event::Entry(entry),
        ) if left > 0 => {
            assert!(entry.flags.bits() < 16);
            At::Within {
                kind: ResponseKind::List,
                left: left - 1,
            }
        }
        (At::Within { kind, left }, Event::Image(image))
            if left > 0 && kind != ResponseKind::List =>
        {
            assert!(!image.flags.has_reserved());
            At::Image {
                kind,
                left: left - 1,
                image,
                hasher: ImageHasher::new(),
                length: 0,
            }
        }
        (At::Within { kind, left }, Event::Cancelled { kind: cancelled }) => {
            assert!(kind == cancelled && kind != ResponseKind::List && left > 0);
            *answers += 1;
            At::Between
        }
        (At::Within { kind, left: 0 }, Event::End { kind: ended }) => {
            assert_eq!(kind, ended);
            *answers += 1;
            At::Between
        }
        (
            At::Packet {
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
            At::Packet {
                kind,
                left,
                body,
                length,
            }
        }
        (
            At::Packet {
                kind,
                left,
                body,
                length,
            },
            Event::PacketEnd { image },
        ) => {
            assert_eq!(length, image.length);
            assert!(body.verdict().is_some());
            At::Within { kind, left }
        }
        (
            At::Image {
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
            assert!(length <= MAX_IMAGE, "over the limit: R4");
            At::Image {
                kind,
                left,
                image,
                hasher,
                length,
            }
        }
        (
            At::Image {
                kind, left, hasher, ..
            },
            Event::ImageEnd { image, verdict },
        ) => {
            assert!(
                verdict.is_err() || hasher.id() == image.id,
                "a wrong image called good: R2"
            );
            At::Within { kind, left }
        }
        (at, event) => panic!("{event:?} in {at:?}, {used} bytes"),
    }
}

fn sticky(client: &mut ClientConnection, fault: &ClientError) {
    let late = Time::since_epoch(Duration::from_secs(1 << 40));
    assert!(client.transmit().is_empty() && client.deadline().is_none());
    assert!(!client.is_idle() && !client.is_reusable());
    assert_eq!(client.receive(b"JTPC", late).unwrap_err(), *fault);
    assert_eq!(client.receive_eof(late).unwrap_err(), *fault);
    assert_eq!(client.handle_timeout(late).unwrap_err(), *fault);
    assert!(client.request(Request::List, true, late).is_err() && client.cancel(late).is_err());
    assert_eq!(client.fault(), Some(fault));
}
