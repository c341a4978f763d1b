//! Tests of the client's connection: scripts of the application's calls and the server's bytes. Each runs with the
//! bytes in one piece, one at a time, and split at every point.

mod clock;
mod fuzz;
mod refused;
mod rules;
mod sending;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::body::{BodyReceiver, Verified};
use crate::connection::{Misuse, Received};
use crate::fault::ImageFault;
use crate::image::{FileType, Flags, ImageId};
use crate::wire::entry::{self, Entry};
use crate::wire::packet;
use crate::wire::response::{ErrorCode, ErrorFrame, Header, encode_data_head, encode_head};

/// A call of the application, or bytes from the server.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Ask(Request),
    AskLast(Request),
    Cancel,
    Bytes(Vec<u8>),
    Eof,
}

/// A result of the script.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Log {
    Begin(ResponseKind, u32),
    Entry(CatalogEntry<'static>),
    Image(ImageId),
    Data(Vec<u8>),
    ImageEnd(ImageId, Result<(), ImageFault>),
    NewImage(CatalogEntry<'static>),
    End(ResponseKind),
    Cancelled(ResponseKind),
    Failed(ClientError),
    Closed,
    Misuse(Misuse),
}

/// Everything that a run shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) log: Vec<Log>,
    pub(super) sent: Vec<u8>,
    pub(super) idle: bool,
    pub(super) reusable: bool,
    pub(super) outstanding: usize,
}

pub(super) const NOW: Time = Time::ZERO;

fn push(log: &mut Vec<Log>, event: Event<'_>) {
    let entry = match event {
        Event::Begin { kind, count } => Log::Begin(kind, count),
        Event::Entry(entry) => Log::Entry(entry.into_owned()),
        Event::Image(image) => Log::Image(image.id),
        Event::Data(bytes) => {
            assert!(!bytes.is_empty());
            if let Some(Log::Data(before)) = log.last_mut() {
                before.extend_from_slice(bytes);
                return;
            }
            Log::Data(bytes.to_vec())
        }
        Event::ImageEnd { image, verdict } => Log::ImageEnd(image.id, verified(image, verdict)),
        Event::PacketEnd { image } => panic!("{image:?} was not left undecoded"),
        Event::NewImage(entry) => Log::NewImage(entry.into_owned()),
        Event::End { kind } => Log::End(kind),
        Event::Cancelled { kind } => Log::Cancelled(kind),
    };
    log.push(entry);
}

fn verified(image: Image, verdict: Result<Verified, ImageFault>) -> Result<(), ImageFault> {
    let verified = verdict?;
    assert_eq!((verified.image(), verified.id()), (image, image.id));
    Ok(())
}

/// Passes one piece of input to the connection, until there are no more events.
fn receive(connection: &mut ClientConnection, input: &[u8], log: &mut Vec<Log>) {
    receive_and(connection, input, log, None, &mut |_| {});
}

/// The same, with a call after each event. With a `decoder`, images are decoded outside of the connection; the log is
/// the same.
fn receive_and(
    connection: &mut ClientConnection,
    mut input: &[u8],
    log: &mut Vec<Log>,
    mut decoder: Option<&mut BodyReceiver>,
    after: &mut dyn FnMut(&mut ClientConnection),
) {
    loop {
        match connection.receive(input, NOW) {
            Ok(Received { used, event }) => {
                let given = input;
                input = &input[used..];
                match event {
                    Some(event) => {
                        if let Event::Data(data) = event {
                            let data = data.to_vec();
                            assert_eq!(connection.data(given), data, "the same bytes");
                            match &mut decoder {
                                Some(decoder) => decode(decoder, &data, log),
                                None => push(log, Event::Data(&data)),
                            }
                        } else if let (Event::Image(image), Some(decoder)) = (&event, &mut decoder)
                        {
                            decoder.begin(*image);
                            push(log, event);
                            assert_eq!(connection.leave_undecoded(), Ok(()));
                        } else if let (Event::PacketEnd { image }, Some(decoder)) =
                            (&event, &mut decoder)
                        {
                            let verdict = decoder.verdict().expect("the whole packet");
                            log.push(Log::ImageEnd(image.id, verified(*image, verdict)));
                        } else {
                            push(log, event);
                        }
                        after(connection);
                    }
                    None => {
                        assert!(input.is_empty(), "without an event all input is used");
                        return;
                    }
                }
            }
            Err(error) => {
                assert_eq!(connection.fault(), Some(&error));
                assert!(connection.transmit().is_empty());
                if !matches!(log.last(), Some(Log::Failed(_))) {
                    log.push(Log::Failed(error));
                }
                return;
            }
        }
    }
}

/// Decodes the bytes of a packet outside of the connection.
fn decode(decoder: &mut BodyReceiver, mut bytes: &[u8], log: &mut Vec<Log>) {
    while !bytes.is_empty() {
        let piece = decoder.receive(bytes);
        bytes = &bytes[piece.used..];
        if !piece.data.is_empty() {
            push(log, Event::Data(piece.data));
        }
    }
}

fn send(connection: &mut ClientConnection, sent: &mut Vec<u8>) {
    while !connection.transmit().is_empty() {
        let some = connection.transmit().len().div_ceil(2);
        sent.extend_from_slice(&connection.transmit()[..some]);
        connection.transmitted(some, NOW).unwrap();
    }
}

pub(super) fn run(config: ClientConfig, steps: &[Step], cut: &mut dyn FnMut() -> usize) -> Run {
    run_with(config, steps, None, cut)
}

/// The same, with the images decoded outside of the connection.
pub(super) fn run_undecoded(
    config: ClientConfig,
    steps: &[Step],
    cut: &mut dyn FnMut() -> usize,
) -> Run {
    let mut decoder = BodyReceiver::new(config.max_image_size(), config.max_window());
    run_with(config, steps, Some(&mut decoder), cut)
}

fn run_with(
    config: ClientConfig,
    steps: &[Step],
    mut decoder: Option<&mut BodyReceiver>,
    cut: &mut dyn FnMut() -> usize,
) -> Run {
    let mut connection = ClientConnection::new(config, NOW);
    let (mut log, mut sent) = (Vec::new(), Vec::new());
    for step in steps {
        let done = match step {
            Step::Ask(request) => connection.request(request.clone(), true, NOW),
            Step::AskLast(request) => connection.request(request.clone(), false, NOW),
            Step::Cancel => connection.cancel(NOW),
            Step::Bytes(bytes) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (piece, later) = rest.split_at(cut().clamp(1, rest.len()));
                    let after = &mut |connection: &mut _| send(connection, &mut sent);
                    let decoder = decoder.as_deref_mut();
                    receive_and(&mut connection, piece, &mut log, decoder, after);
                    rest = later;
                }
                Ok(())
            }
            Step::Eof => {
                match connection.receive_eof(NOW) {
                    Ok(()) => log.push(Log::Closed),
                    Err(error) if !matches!(log.last(), Some(Log::Failed(_))) => {
                        log.push(Log::Failed(error));
                    }
                    Err(_) => {}
                }
                Ok(())
            }
        };
        if let Err(misuse) = done {
            log.push(Log::Misuse(misuse));
        }
        send(&mut connection, &mut sent);
    }
    Run {
        log,
        sent,
        idle: connection.is_idle(),
        reusable: connection.is_reusable(),
        outstanding: connection.outstanding(),
    }
}

/// Runs a script with its bytes split in many ways, which must all give the same result.
pub(super) fn play_with(config: ClientConfig, steps: &[Step]) -> Run {
    let whole = run(config, steps, &mut || usize::MAX);
    let longest = steps.iter().map(|step| match step {
        Step::Bytes(bytes) => bytes.len(),
        _ => 0,
    });
    let longest = longest.max().unwrap_or(0);
    assert_eq!(run(config, steps, &mut || 1), whole, "one byte at a time");
    for at in 1..longest.min(600) {
        let mut first = true;
        let mut cut = || {
            if core::mem::take(&mut first) {
                at
            } else {
                usize::MAX
            }
        };
        assert_eq!(run(config, steps, &mut cut), whole, "split at {at}");
        assert_eq!(run(config, steps, &mut || at), whole, "pieces of {at}");
        let outside = run_undecoded(config, steps, &mut || at);
        assert_eq!(outside, whole, "pieces of {at}, decoded outside");
    }
    whole
}

pub(super) fn play(steps: &[Step]) -> Run {
    play_with(ClientConfig::default(), steps)
}

pub(super) fn logs(steps: &[Step]) -> Vec<Log> {
    play(steps).log
}

/// The error that a script must end with.
pub(super) fn failure(steps: &[Step]) -> ClientError {
    match play(steps).log.pop() {
        Some(Log::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

pub(super) const PIPELINING: ClientConfig = ClientConfig::new().with_pipeline(true);

pub(super) const A: &[u8] = b"the first image";
pub(super) const B: &[u8] = b"another one, a bit longer";

pub(super) fn id(image: &[u8]) -> ImageId {
    ImageId::of(image)
}

pub(super) fn get(images: &[&[u8]]) -> Request {
    Request::GetById(images.iter().map(|image| id(image)).collect())
}

pub(super) fn batch(images: &[&[u8]]) -> Request {
    Request::Batch(HaveSet::try_from_iter(images.iter().map(|image| id(image))).unwrap())
}

pub(super) fn bytes(parts: &[&[u8]]) -> Step {
    Step::Bytes(parts.concat())
}

pub(super) fn head(header: Header, count: u32) -> Vec<u8> {
    let mut out = Vec::new();
    match header {
        Header::Data => encode_data_head(u8::try_from(count).unwrap(), &mut out),
        header => encode_head(header, count, &mut out),
    }
    out
}

/// A packet with these data, which need not match the ID.
pub(super) fn packet_of(flags: u8, id: ImageId, data: &[u8]) -> Vec<u8> {
    let image = Image::new(
        id,
        Flags::from_bits(flags),
        u32::try_from(data.len()).unwrap(),
    );
    let mut out = Vec::new();
    packet::encode_head(&image, &mut out);
    out.extend_from_slice(data);
    out
}

/// A raw image's packet.
pub(super) fn packet(image: &[u8]) -> Vec<u8> {
    packet_of(0, id(image), image)
}

pub(super) fn entry(name: &str) -> Vec<u8> {
    let image = Image::new(ImageId(7), Flags::new(FileType::Gif, false), 4660);
    let entry = Entry::new(name, image);
    let mut out = Vec::new();
    entry::encode(&entry, &mut out).unwrap();
    out
}

pub(super) fn owned_entry(name: &str) -> CatalogEntry<'static> {
    let image = Image::new(ImageId(7), Flags::new(FileType::Gif, false), 4660);
    CatalogEntry::new(String::from(name), image)
}

pub(super) fn error_frame(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    ErrorFrame::new(code, message).encode(&mut out);
    out
}

pub(super) fn server_error(code: ErrorCode, message: &str) -> ClientError {
    ServerError::new(code, message).into()
}
