//! Tests of the client's connection with given calls and bytes. Random ones are in the test `simulation`.

mod clock;
mod refused;
mod rules;
mod sending;

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::connection::{Misuse, Received};
use crate::image::{FileType, Flags, ImageId};
use crate::wire::entry::{self, Entry};
use crate::wire::packet;
use crate::wire::response::{ErrorCode, ErrorFrame, Header, encode_data_head, encode_head};

const NOW: Time = Time::ZERO;

/// A connection that has sent these requests.
fn asked(config: ClientConfig, requests: &[Request]) -> ClientConnection {
    let mut connection = ClientConnection::new(config, NOW);
    for request in requests {
        connection.request(request.clone(), true, NOW).unwrap();
    }
    let sent = connection.transmit().len();
    connection.transmitted(sent, NOW).unwrap();
    connection
}

/// Passes bytes to the connection until they are used, and returns the events, without the data of images.
fn receive(
    connection: &mut ClientConnection,
    mut input: &[u8],
) -> Result<Vec<Event<'static>>, ClientError> {
    let mut events = Vec::new();
    loop {
        let Received { used, event } = connection.receive(input, NOW)?;
        input = &input[used..];
        match event {
            Some(event) => events.push(event.into_owned()),
            None => return Ok(events),
        }
    }
}

const A: &[u8] = b"the first image";

fn id(image: &[u8]) -> ImageId {
    ImageId::of(image)
}

fn get(images: &[&[u8]]) -> Request {
    Request::GetById(images.iter().map(|image| id(image)).collect())
}

fn head(header: Header, count: u32) -> Vec<u8> {
    let mut out = Vec::new();
    match header {
        Header::Data => encode_data_head(u8::try_from(count).unwrap(), &mut out),
        header => encode_head(header, count, &mut out),
    }
    out
}

/// A packet with these data, which need not match the ID.
fn packet_of(flags: u8, id: ImageId, data: &[u8]) -> Vec<u8> {
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

fn entry(name: &str) -> Vec<u8> {
    let image = Image::new(ImageId(7), Flags::new(FileType::Gif, false), 4660);
    let entry = Entry::new(name, image);
    let mut out = Vec::new();
    entry::encode(&entry, &mut out).unwrap();
    out
}

fn error_frame(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    ErrorFrame::new(code, message).encode(&mut out);
    out
}
