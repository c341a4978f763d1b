//! A server's connection fed any bytes, against a server that is a page long: it has the whole input before
//! it, and writes down what the rules say.

use jtp_core::wire::request::{CANCEL, RequestHead, RequestKind};
use jtp_core::wire::response::{self, ErrorCode, Header};
use jtp_core::wire::{Decoded, WireError, packet};
use jtp_core::{Image, ImageId};

use crate::Choices;
use crate::serve::{MAX_HAVE, body, catalog, serve};

pub fn run(data: &[u8]) {
    let mut choices = Choices(data);
    let first = choices.byte();
    let (watch, late) = (first % 8 != 0, first / 8);
    let mut steps = Choices(choices.take(4));
    let input = choices.0;
    let Answer {
        expected,
        error,
        requests,
        pauses,
    } = reference(watch, late, input);
    let seen = serve(watch, input, &pauses, &mut || usize::MAX, &mut steps);
    assert_eq!(seen.requests, requests);
    assert!(
        seen.output.starts_with(&expected),
        "{:?}\n{:?}",
        seen,
        expected
    );
    let rest = &seen.output[expected.len()..];
    match error {
        None => assert!(rest.is_empty(), "more than was promised: {rest:?}"),
        Some(code) => {
            let body = rest.strip_prefix(b"JTPE").expect("JTPE");
            match response::ErrorFrame::decode_body(body) {
                Ok(Decoded::Complete { value, used }) => {
                    assert_eq!(
                        (value.code, used),
                        (code, body.len()),
                        "S11: something behind it"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// What a server does with an input.
#[derive(Default)]
pub struct Answer {
    expected: Vec<u8>,
    error: Option<ErrorCode>,
    requests: Vec<RequestHead>,
    /// Where a CANCEL follows that comes only when all before it has been answered.
    pub pauses: Vec<usize>,
}

/// `late` says, a bit for each, which CANCELs come only when all before them has been answered.
pub fn reference(watch: bool, late: u8, input: &[u8]) -> Answer {
    let mut answer = Answer::default();
    answer.error = answer.go(watch, late, input);
    answer
}

impl Answer {
    fn go(&mut self, watch: bool, mut late: u8, whole: &[u8]) -> Option<ErrorCode> {
        let catalog = catalog();
        let all: Vec<Image> = catalog.entries().map(|entry| entry.image()).collect();
        let (mut input, mut cancellable) = (whole, false);
        let Answer {
            expected: out,
            requests,
            pauses,
            ..
        } = self;
        let mut comes_late = || {
            let bit = late % 2 == 1;
            late /= 2;
            bit
        };
        loop {
            if input.first() == Some(&CANCEL) && comes_late() {
                pauses.push(whole.len() - input.len());
            }
            let head = match RequestHead::decode(input) {
                Ok(Decoded::Complete { value, used }) => {
                    input = &input[used..];
                    value
                }
                Ok(Decoded::Incomplete { .. }) => return None, // S10
                Err(WireError::UnknownRequest(_)) => {
                    return Some(ErrorCode::UnsupportedFeature);
                }
                Err(_) => return Some(ErrorCode::InvalidRequest),
            };
            match head.kind {
                RequestKind::Cancel if cancellable => {
                    out.extend_from_slice(b"JTPC"); // C3
                    continue;
                }
                RequestKind::Cancel => return Some(ErrorCode::InvalidRequest), // C4
                RequestKind::Watch if !watch => {
                    return Some(ErrorCode::UnsupportedFeature);
                }
                RequestKind::Batch { have } if have > MAX_HAVE => {
                    return Some(ErrorCode::InvalidRequest); // S8
                }
                _ => requests.push(head),
            }
            cancellable |= head.keep_alive || head.kind == RequestKind::Watch;
            if head.kind == RequestKind::Watch {
                // N3 N6
                match input {
                    [] | [CANCEL] => return None,
                    [CANCEL, 0..=1, rest @ ..] => {
                        out.extend_from_slice(b"JTPC");
                        input = rest;
                        continue;
                    }
                    _ => return Some(ErrorCode::InvalidRequest),
                }
            }
            let Some((ids, rest)) = input.split_at_checked(head.kind.ids() as usize * 8) else {
                return None;
            };
            input = rest;
            let ids: Vec<ImageId> = ids
                .chunks_exact(8)
                .map(|id| ImageId::from_be_bytes(id.try_into().unwrap()))
                .collect();
            let images: Vec<Image> = match head.kind {
                RequestKind::GetById { .. } => {
                    ids.iter().filter_map(|id| catalog.get(*id)).collect()
                }
                RequestKind::Batch { .. } => all
                    .iter()
                    .filter(|image| !ids.contains(&image.id))
                    .copied()
                    .collect(),
                _ => all.clone(),
            };
            let count = u32::try_from(images.len()).unwrap();
            match head.kind {
                RequestKind::GetById { .. } => response::encode_data_head(count as u8, out),
                RequestKind::Batch { .. } => response::encode_head(Header::Batch, count, out),
                RequestKind::ListAndGet => response::encode_head(Header::ListAndGet, count, out),
                _ => catalog
                    .list()
                    .for_each(|piece| out.extend_from_slice(piece)),
            }
            // A CANCEL that directly follows is seen before the first packet: here the whole input is. // C2 C5
            if let [CANCEL, 0..=1, rest @ ..] = input {
                if !head.keep_alive {
                    return Some(ErrorCode::InvalidRequest); // C4
                }
                if comes_late() {
                    pauses.push(whole.len() - input.len());
                    if head.kind != RequestKind::List {
                        send(images, out);
                    }
                    continue;
                }
                out.extend_from_slice(b"JTPC");
                input = rest;
                continue;
            }
            if head.kind != RequestKind::List {
                send(images, out);
            }
            if !head.keep_alive {
                return None; // S2
            }
        }
    }
}

fn send(images: Vec<Image>, out: &mut Vec<u8>) {
    for image in images {
        packet::encode_head(&image, out);
        out.extend_from_slice(body(image.id));
    }
}
