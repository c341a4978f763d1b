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
    let watch = choices.byte() % 8 != 0;
    let mut steps = Choices(choices.take(4));
    let input = choices.0;
    let seen = serve(watch, input, &mut || usize::MAX, &mut steps);
    let (expected, error, requests) = reference(watch, input);
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

type Answer = (Vec<u8>, Option<ErrorCode>, Vec<RequestHead>);

fn reference(watch: bool, mut input: &[u8]) -> Answer {
    let catalog = catalog();
    let all: Vec<Image> = catalog.entries().map(|entry| entry.image()).collect();
    let (mut out, mut requests, mut cancellable) = (Vec::new(), Vec::new(), false);
    loop {
        let head = match RequestHead::decode(input) {
            Ok(Decoded::Complete { value, used }) => {
                input = &input[used..];
                value
            }
            Ok(Decoded::Incomplete { .. }) => return (out, None, requests), // S10
            Err(WireError::UnknownRequest(_)) => {
                return (out, Some(ErrorCode::UnsupportedFeature), requests);
            }
            Err(_) => return (out, Some(ErrorCode::InvalidRequest), requests),
        };
        match head.kind {
            RequestKind::Cancel if cancellable => {
                out.extend_from_slice(b"JTPC"); // C3
                continue;
            }
            RequestKind::Cancel => return (out, Some(ErrorCode::InvalidRequest), requests), // C4
            RequestKind::Watch if !watch => {
                return (out, Some(ErrorCode::UnsupportedFeature), requests);
            }
            RequestKind::Batch { have } if have > MAX_HAVE => {
                return (out, Some(ErrorCode::InvalidRequest), requests); // S8
            }
            _ => requests.push(head),
        }
        cancellable |= head.keep_alive || head.kind == RequestKind::Watch;
        if head.kind == RequestKind::Watch {
            // N3 N6
            match input {
                [] | [CANCEL] => return (out, None, requests),
                [CANCEL, 0..=1, rest @ ..] => {
                    out.extend_from_slice(b"JTPC");
                    input = rest;
                    continue;
                }
                _ => return (out, Some(ErrorCode::InvalidRequest), requests),
            }
        }
        let Some((ids, rest)) = input.split_at_checked(head.kind.ids() as usize * 8) else {
            return (out, None, requests);
        };
        input = rest;
        let ids: Vec<ImageId> = ids
            .chunks_exact(8)
            .map(|id| ImageId::from_be_bytes(id.try_into().unwrap()))
            .collect();
        let images: Vec<Image> = match head.kind {
            RequestKind::GetById { .. } => ids.iter().filter_map(|id| catalog.get(*id)).collect(),
            RequestKind::Batch { .. } => all
                .iter()
                .filter(|image| !ids.contains(&image.id))
                .copied()
                .collect(),
            _ => all.clone(),
        };
        let count = u32::try_from(images.len()).unwrap();
        match head.kind {
            RequestKind::GetById { .. } => response::encode_data_head(count as u8, &mut out),
            RequestKind::Batch { .. } => response::encode_head(Header::Batch, count, &mut out),
            RequestKind::ListAndGet => response::encode_head(Header::ListAndGet, count, &mut out),
            _ => catalog
                .list()
                .for_each(|piece| out.extend_from_slice(piece)),
        }
        // A CANCEL that directly follows is seen before the first packet: here the whole input is. // C2 C5
        if let [CANCEL, 0..=1, rest @ ..] = input {
            if !head.keep_alive {
                return (out, Some(ErrorCode::InvalidRequest), requests); // C4
            }
            out.extend_from_slice(b"JTPC");
            input = rest;
            continue;
        }
        if head.kind != RequestKind::List {
            for image in images {
                packet::encode_head(&image, &mut out);
                out.extend_from_slice(body(image.id));
            }
        }
        if !head.keep_alive {
            return (out, None, requests); // S2
        }
    }
}
