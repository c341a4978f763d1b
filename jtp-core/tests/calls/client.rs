//! A client's connection: its server sends answers and anything else, its application calls what it likes.

use std::time::Duration;

use jtp_core::client::{ClientConfig, ClientConnection, Event, HaveSet, Request, ResponseKind};
use jtp_core::wire::response::{self, ErrorCode, ErrorFrame, Header};
use jtp_core::wire::{entry, packet};
use jtp_core::{FileType, Flags, Image, ImageHasher, ImageId, Time};

use super::{Dice, garbage, part};

/// The largest image that is taken here.
const MAX_IMAGE: u64 = 60;

#[derive(Debug)]
struct InImage {
    hasher: ImageHasher,
    length: u64,
}

/// The events of a response, as they have to come. // R1
#[derive(Debug, Default)]
struct Told {
    response: Option<(ResponseKind, u32)>,
    image: Option<InImage>,
}

/// Plays `steps` calls, and then ends the connection.
pub(crate) fn play(steps: u32, dice: Dice<'_>) {
    let config = ClientConfig::new()
        .with_pipeline(dice(2) == 0)
        .with_max_image_size(MAX_IMAGE)
        .with_max_window(1 << 16);
    let mut client = ClientConnection::new(config, Time::ZERO);
    let (mut now, mut input, mut told) = (Time::ZERO, Vec::new(), Told::default());
    let mut ended = false;
    for _ in 0..steps {
        let fault = client.fault().cloned();
        let shown = client.transmit().to_vec();
        let asked = client.outstanding();
        let at = if dice(16) == 0 { Time::ZERO } else { now };
        let mut taken = 0;
        match dice(16) {
            0..3 => {
                let result = client.request(request(dice), dice(8) > 0, at);
                assert_eq!(client.outstanding(), asked + usize::from(result.is_ok()));
            }
            3 => drop(client.cancel(at)),
            4 | 5 => {
                taken = part(dice, shown.len()) + usize::from(dice(16) == 0);
                let result = client.transmitted(taken, at);
                // Once it has ended any number is right.
                assert_eq!(
                    result.is_ok(),
                    taken <= shown.len() || ended || fault.is_some()
                );
                if result.is_err() {
                    taken = 0;
                }
            }
            6..11 => frame(dice, &mut input),
            11..14 => {
                let count = part(dice, input.len());
                if let Ok(received) = client.receive(&input[..count], at) {
                    let used = received.used;
                    if let Some(event) = received.event {
                        told.next(event);
                    }
                    assert!(used <= count);
                    input.drain(..used);
                }
            }
            14 => {
                now = now + Duration::from_millis([1, 5_000, 61_000][dice(3) as usize]);
                let _ = client.handle_timeout(now);
                assert!(client.deadline().is_none_or(|deadline| deadline > now));
            }
            _ => match dice(12) {
                0 => {
                    ended = true;
                    let _ = client.receive_eof(at);
                }
                1 => client.wait(at),
                _ => {}
            },
        }
        // Two windows of output at most, and what was shown stays.
        assert!(client.transmit().len() <= 40 * 1024);
        if let Some(fault) = fault {
            assert_eq!(client.fault(), Some(&fault), "an error is sticky");
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
                client.transmit().starts_with(&shown[taken..]),
                "output taken back"
            );
        }
    }
    let _ = client.receive_eof(now);
    while let Ok(Some(event)) = client.receive(&[], now).map(|received| received.event) {
        told.next(event);
    }
}

fn some_image(dice: Dice<'_>) -> (ImageId, Vec<u8>) {
    let bytes = vec![7; [0, 1, 20, 90][dice(4) as usize]];
    (ImageId::of(&bytes), bytes)
}

fn request(dice: Dice<'_>) -> Request {
    let ids =
        |dice: Dice<'_>| -> Vec<ImageId> { (0..dice(5)).map(|_| some_image(dice).0).collect() };
    match dice(7) {
        0 | 1 => Request::List,
        2 => Request::GetById(ids(dice)),
        3 => Request::Batch(HaveSet::try_from(ids(dice)).unwrap()),
        4 => Request::ListAndGet,
        5 => Request::Batch(HaveSet::try_from_iter((0..2_500).map(ImageId)).unwrap()),
        _ => Request::Watch,
    }
}

/// Something that a server might send, in place or not.
fn frame(dice: Dice<'_>, out: &mut Vec<u8>) {
    match dice(12) {
        0 => response::encode_head(Header::List, dice(4), out),
        1 => response::encode_data_head(dice(4) as u8, out),
        2 => response::encode_head(Header::Batch, dice(4), out),
        3 => response::encode_head(Header::ListAndGet, dice(4), out),
        4 => out.extend_from_slice(b"JTPC"),
        5 => out.extend_from_slice(b"JTPW"),
        6 | 7 => {
            let name = ["", "a.png", "../e\u{301}"][dice(3) as usize];
            let id = ImageId(dice(9).into());
            let flags = Flags::from_bits(dice(20) as u8);
            let entry = entry::Entry::new(name, Image::new(id, flags, dice(9)));
            entry::encode(&entry, out).unwrap();
        }
        8 | 9 => {
            let (id, body) = some_image(dice);
            let compressed = dice(6) == 0;
            let id = if dice(8) == 0 { ImageId(1) } else { id };
            let image = Image::new(
                id,
                Flags::new(FileType::Bmp, compressed),
                u32::try_from(body.len()).unwrap(),
            );
            packet::encode_head(&image, out);
            out.extend_from_slice(&body);
        }
        10 if dice(4) == 0 => ErrorFrame::new(ErrorCode::ServerError, "no").encode(out),
        _ if dice(4) == 0 => out.extend(garbage(dice, 8)),
        _ => {}
    }
}

impl Told {
    fn next(&mut self, event: Event<'_>) {
        match event {
            Event::Begin { kind, count } => {
                assert!(kind != ResponseKind::Watch);
                assert!(
                    self.response.replace((kind, count)).is_none(),
                    "two answers at once"
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
                let image = InImage { hasher, length: 0 };
                assert!(
                    self.image.replace(image).is_none(),
                    "an image within another"
                );
            }
            Event::Data(data) => {
                let image = self.image.as_mut().unwrap();
                image.hasher.update(data);
                image.length += data.len() as u64;
                assert!(!data.is_empty() && image.length <= MAX_IMAGE, "R4");
            }
            Event::ImageEnd { image, verdict } => {
                let came = self.image.take().unwrap();
                let right = came.hasher.id() == image.id;
                assert!(verdict.is_err() || right, "R2: a wrong image called good");
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
