//! A server connection receives any bytes; its output must equal that of a short reference server, which sees the
//! whole input at once and follows the rules of RFC.md.

use jtp_core::wire::request::{CANCEL, RequestHead, RequestKind};
use jtp_core::wire::response::{self, ErrorCode, Header};
use jtp_core::wire::{Decoded, WireError, packet};
use jtp_core::{Image, ImageId};

use crate::ByteReader;
use crate::serve::{MAX_HAVE, body, catalog, serve};

pub fn run(data: &[u8]) {
    let mut reader = ByteReader(data);
    let first = reader.byte();
    let (watch, late) = (first % 8 != 0, first / 8);
    let mut steps = ByteReader(reader.take(4));
    let input = reader.0;
    let Expected {
        output: expected,
        error,
        requests,
        pauses,
    } = reference(watch, late, input);
    let outcome = serve(watch, input, &pauses, &mut || usize::MAX, &mut steps);
    assert_eq!(outcome.requests, requests);
    assert!(
        outcome.output.starts_with(&expected),
        "{:?}\n{:?}",
        outcome,
        expected
    );
    let rest = &outcome.output[expected.len()..];
    match error {
        None => assert!(rest.is_empty(), "output after the expected end: {rest:?}"),
        Some(code) => {
            let body = rest.strip_prefix(b"JTPE").expect("JTPE");
            match response::ErrorFrame::decode_body(body) {
                Ok(Decoded::Complete { value, used }) => {
                    assert_eq!(
                        (value.code, used),
                        (code, body.len()),
                        "S11: output after JTPE"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The expected behaviour of a server.
#[derive(Default)]
pub struct Expected {
    output: Vec<u8>,
    error: Option<ErrorCode>,
    requests: Vec<RequestHead>,
    /// Offsets of the CANCELs that arrive only after everything before them was answered.
    pub pauses: Vec<usize>,
}

/// Bit `n` of `late` is set if CANCEL `n` arrives only after everything before it was answered.
pub fn reference(watch: bool, late: u8, input: &[u8]) -> Expected {
    let mut expected = Expected::default();
    expected.error = expected.compute(watch, late, input);
    expected
}

impl Expected {
    fn compute(&mut self, watch: bool, mut late: u8, whole: &[u8]) -> Option<ErrorCode> {
        let catalog = catalog();
        let all: Vec<Image> = catalog.entries().map(|entry| entry.image()).collect();
        let (mut input, mut cancellable) = (whole, false);
        let Expected {
            output: out,
            requests,
            pauses,
            ..
        } = self;
        let mut is_late = || {
            let bit = late % 2 == 1;
            late /= 2;
            bit
        };
        loop {
            if input.first() == Some(&CANCEL) && is_late() {
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
            let (ids, rest) = input.split_at_checked(head.kind.ids() as usize * 8)?;
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
                RequestKind::List | RequestKind::ListAndGet => all.clone(),
                other => panic!("the reference does not know the answer to {other:?}"),
            };
            let count = u32::try_from(images.len()).unwrap();
            match head.kind {
                RequestKind::GetById { .. } => response::encode_data_head(count as u8, out),
                RequestKind::Batch { .. } => response::encode_head(Header::Batch, count, out),
                RequestKind::ListAndGet => response::encode_head(Header::ListAndGet, count, out),
                RequestKind::List => catalog
                    .list()
                    .for_each(|piece| out.extend_from_slice(piece)),
                other => panic!("the reference does not know the answer to {other:?}"),
            }
            // The reference sees a CANCEL that directly follows before the first packet. // C2 C5
            if let [CANCEL, 0..=1, rest @ ..] = input {
                if !head.keep_alive {
                    return Some(ErrorCode::InvalidRequest); // C4
                }
                if is_late() {
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
