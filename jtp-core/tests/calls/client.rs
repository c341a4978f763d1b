//! The client connection: its server sends responses and other bytes, its application makes any calls.

use std::time::Duration;

use jtp_core::client::{ClientConfig, ClientConnection, Event, Request, ResponseKind};
use jtp_core::wire::request::RequestKind;
use jtp_core::wire::response::{self, ErrorCode, ErrorFrame, Header};
use jtp_core::wire::{entry, packet};
use jtp_core::{FileType, Flags, Image, ImageHasher, ImageId, Time};

use super::{RngFn, garbage, part};

/// The maximum image size of the client.
const MAX_IMAGE: u64 = 60;

#[derive(Debug)]
struct ImageInProgress {
    hasher: ImageHasher,
    length: u64,
}

/// Checks the order of the events. // R1
#[derive(Debug, Default)]
struct EventChecker {
    response: Option<(ResponseKind, u32)>,
    image: Option<ImageInProgress>,
}

/// Makes `steps` calls, then ends the connection.
pub(crate) fn run(steps: u32, rng: RngFn<'_>) {
    let config = ClientConfig::new()
        .with_pipeline(rng(2) == 0)
        .with_max_image_size(MAX_IMAGE)
        .with_max_window(1 << 16);
    let mut client = ClientConnection::new(config, Time::ZERO);
    let (mut now, mut input, mut checker) = (Time::ZERO, Vec::new(), EventChecker::default());
    let mut ended = false;
    for _ in 0..steps {
        let fault = client.fault().cloned();
        let offered = client.transmit().to_vec();
        let outstanding = client.outstanding();
        let at = if rng(16) == 0 { Time::ZERO } else { now };
        let mut acknowledged = 0;
        match rng(16) {
            0..3 => {
                let result = client.request(request(rng), rng(8) > 0, at);
                assert_eq!(
                    client.outstanding(),
                    outstanding + usize::from(result.is_ok())
                );
            }
            3 => drop(client.cancel(at)),
            4 | 5 => {
                acknowledged = part(rng, offered.len()) + usize::from(rng(16) == 0);
                let result = client.transmitted(acknowledged, at);
                // After the end any number is accepted.
                assert_eq!(
                    result.is_ok(),
                    acknowledged <= offered.len() || ended || fault.is_some()
                );
                if result.is_err() {
                    acknowledged = 0;
                }
            }
            6..11 => frame(rng, &mut input),
            11..14 => {
                let count = part(rng, input.len());
                if let Ok(received) = client.receive(&input[..count], at) {
                    let used = received.used;
                    if let Some(event) = received.event {
                        checker.check(event);
                    }
                    assert!(used <= count);
                    input.drain(..used);
                }
            }
            14 => {
                now = now + Duration::from_millis([1, 5_000, 61_000][rng(3) as usize]);
                let _ = client.handle_timeout(now);
                assert!(client.deadline().is_none_or(|deadline| deadline > now));
            }
            _ => match rng(12) {
                0 => {
                    ended = true;
                    let _ = client.receive_eof(at);
                }
                1 => client.wait(at),
                _ => {}
            },
        }
        // At most two windows of output, and offered output stays.
        assert!(client.transmit().len() <= 40 * 1024);
        if let Some(fault) = fault {
            assert_eq!(client.fault(), Some(&fault), "errors are sticky");
        }
        if client.fault().is_some() {
            assert!(client.transmit().is_empty() && client.deadline().is_none());
            assert!(!client.is_idle() && !client.is_reusable());
            assert_eq!(
                client.receive(b"JTPC", now).unwrap_err(),
                *client.fault().unwrap()
            );
        } else if !ended {
            assert!(
                client.transmit().starts_with(&offered[acknowledged..]),
                "offered output was withdrawn"
            );
        }
    }
    let _ = client.receive_eof(now);
    while let Ok(Some(event)) = client.receive(&[], now).map(|received| received.event) {
        checker.check(event);
    }
}

fn some_image(rng: RngFn<'_>) -> (ImageId, Vec<u8>) {
    let bytes = vec![7; [0, 1, 20, 90][rng(4) as usize]];
    (ImageId::of(&bytes), bytes)
}

fn request(rng: RngFn<'_>) -> Request {
    let ids = |rng: RngFn<'_>| -> Vec<ImageId> { (0..rng(5)).map(|_| some_image(rng).0).collect() };
    let kind = RequestKind::ALL[rng(RequestKind::ALL.len() as u32) as usize];
    let ids = match kind {
        RequestKind::Batch { .. } if rng(2) == 0 => (0..2_500).map(ImageId).collect(),
        _ => ids(rng),
    };
    // CANCEL is a call of its own.
    Request::of(kind, ids).unwrap_or(Request::List)
}

/// A frame that a server may send, expected or not.
fn frame(rng: RngFn<'_>, out: &mut Vec<u8>) {
    match rng(12) {
        0..6 => match Header::ALL[rng(Header::ALL.len() as u32) as usize] {
            Header::Data => response::encode_data_head(rng(4) as u8, out),
            header if header.has_varint() => response::encode_head(header, rng(4), out),
            header => out.extend_from_slice(&header.bytes()),
        },
        6 | 7 => {
            let name = ["", "a.png", "../e\u{301}"][rng(3) as usize];
            let id = ImageId(rng(9).into());
            let flags = Flags::from_bits(rng(20) as u8);
            let entry = entry::Entry::new(name, Image::new(id, flags, rng(9)));
            entry::encode(&entry, out).unwrap();
        }
        8 | 9 => {
            let (id, body) = some_image(rng);
            let compressed = rng(6) == 0;
            let id = if rng(8) == 0 { ImageId(1) } else { id };
            let image = Image::new(
                id,
                Flags::new(FileType::Bmp, compressed),
                u32::try_from(body.len()).unwrap(),
            );
            packet::encode_head(&image, out);
            out.extend_from_slice(&body);
        }
        10 if rng(4) == 0 => ErrorFrame::new(ErrorCode::ServerError, "no").encode(out),
        _ if rng(4) == 0 => out.extend(garbage(rng, 8)),
        _ => {}
    }
}

impl EventChecker {
    fn check(&mut self, event: Event<'_>) {
        match event {
            Event::Begin { kind, count } => {
                assert!(kind != ResponseKind::Watch);
                assert!(
                    self.response.replace((kind, count)).is_none(),
                    "two responses at once"
                );
            }
            Event::Entry(_) => {
                let (kind, left) = self.response.as_mut().unwrap();
                assert!(*kind == ResponseKind::List && *left > 0);
                *left -= 1;
            }
            Event::Image(_) => {
                let (kind, left) = self.response.as_mut().unwrap();
                assert!(*kind != ResponseKind::List && *left > 0);
                *left -= 1;
                let hasher = ImageHasher::new();
                let image = ImageInProgress { hasher, length: 0 };
                assert!(
                    self.image.replace(image).is_none(),
                    "an image inside another"
                );
            }
            Event::Data(data) => {
                let image = self.image.as_mut().unwrap();
                image.hasher.update(data);
                image.length += data.len() as u64;
                assert!(!data.is_empty() && image.length <= MAX_IMAGE, "R4");
            }
            Event::ImageEnd { image, verdict } => {
                let received = self.image.take().unwrap();
                let matches = received.hasher.id() == image.id;
                assert!(
                    verdict.is_err() || matches,
                    "R2: a wrong image was accepted"
                );
            }
            Event::NewImage(_) => assert!(self.response.is_none() && self.image.is_none()),
            Event::Cancelled { .. } => {
                assert!(self.image.is_none(), "C2: inside a packet");
                self.response = None;
            }
            Event::End { kind } => {
                assert_eq!(self.response.take(), Some((kind, 0)));
                assert!(self.image.is_none());
            }
            other => panic!("{other:?}"),
        }
    }
}
