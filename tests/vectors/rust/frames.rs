//! Frames: each is decoded complete and truncated at any byte, and encoded again.

use std::collections::BTreeSet;

use jtp_core::wire::request::RequestKind;
use jtp_core::wire::response::{self, ErrorCode, ErrorFrame, Header};
use jtp_core::wire::{DecodeResult, Decoded, WireError};
use jtp_core::wire::{entry, packet, request, varint};
use jtp_core::{FileType, Flags, Image, ImageId, nfc};
use serde_json::{Value, json};

use crate::read::{Vector, kind_named, vectors};

/// Frames up to this many bytes are truncated at every byte.
const SHORT: usize = 4096;

/// Checks a vector: `read` decodes a frame to a value in the format of the vectors, `write` encodes a value.
fn check(
    vector: &Vector,
    read: impl Fn(&[u8]) -> DecodeResult<Value>,
    write: impl Fn(&Value) -> Vec<u8>,
) {
    let (label, frame) = (&vector.label, vector.bytes("bytes"));
    let error = vector.get("error").map(|_| vector.str("error"));
    let end = match error {
        Some(_) => usize::try_from(vector.number("error_at")).unwrap(),
        None => frame.len() - 1,
    };
    let step = if end > SHORT { 997 } else { 1 };
    for cut in (0..=end).step_by(step).chain([end]) {
        match read(&frame[..cut]) {
            Ok(Decoded::Incomplete { need }) => {
                let possible = error.is_some() || cut + need <= frame.len();
                assert!(need > 0 && possible, "{label} at {cut}: {need}");
            }
            other => panic!("{label} at {cut}: {other:?}"),
        }
    }
    if let Some(error) = error {
        for cut in end + 1..=frame.len() {
            assert_eq!(read(&frame[..cut]).map_err(name), Err(error), "{label}");
        }
        return;
    }
    let value = vector.get("value").unwrap().clone();
    let mut with_more = frame.clone();
    if vector.get("then").is_some() {
        with_more.extend(vector.bytes("then"));
    }
    for input in [&frame, &with_more] {
        let whole = Decoded::Complete {
            value: value.clone(),
            used: frame.len(),
        };
        assert_eq!(read(input), Ok(whole), "{label}");
    }
    if vector.get("encode") != Some(&false.into()) {
        assert_eq!(write(&value), frame, "{label}");
    }
}

fn name(error: WireError) -> &'static str {
    match error {
        WireError::Varint => "varint",
        WireError::UnknownRequest(_) => "request_type",
        WireError::RequestFlags(_) => "request_flags",
        WireError::UnknownHeader(_) => "header",
        WireError::EntryFlags(_) => "entry_flags",
        WireError::PacketFlags(_) => "packet_flags",
        WireError::Name => "name",
        WireError::UnknownErrorCode(_) => "error_code",
        _ => "another",
    }
}

fn u32_of(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn u8_of(value: &Value) -> u8 {
    u8::try_from(value.as_u64().unwrap()).unwrap()
}

fn id_of(value: &Value) -> ImageId {
    value.as_str().unwrap().parse().unwrap()
}

/// The file type's name in the vectors.
fn type_name(flags: Flags) -> &'static str {
    match flags.file_type() {
        FileType::Png => "PNG",
        FileType::Jpeg => "JPEG",
        FileType::WebP => "WebP",
        FileType::Bmp => "BMP",
        FileType::Gif => "GIF",
        FileType::Reserved5 | FileType::Reserved6 => "reserved",
        FileType::Other => "other",
    }
}

#[test]
fn w1_w2_varints() {
    for vector in vectors("varint") {
        let read = |input: &[u8]| Ok(varint::decode(input)?.map(Value::from));
        check(&vector, read, |value| {
            let mut out = Vec::new();
            varint::encode(u32_of(value), &mut out);
            assert_eq!(out.len(), varint::encoded_len(u32_of(value)));
            out
        });
    }
}

#[test]
fn w7_s10_requests() {
    use request::{RequestHead, RequestKind};
    for vector in vectors("request") {
        let with_ids = vector.get("value").is_some_and(|v| v.get("ids").is_some());
        let read = |input: &[u8]| {
            let (head, mut used) = match RequestHead::decode(input)? {
                Decoded::Complete { value, used } => (value, used),
                Decoded::Incomplete { need } => return Ok(Decoded::Incomplete { need }),
            };
            let mut value = json!({"request": head.kind.name(), "keep_alive": head.keep_alive});
            if let RequestKind::GetById { .. } | RequestKind::Batch { .. } = head.kind {
                value["count"] = head.kind.ids().into();
            }
            if with_ids {
                let count = usize::try_from(head.kind.ids()).unwrap();
                let Some(ids) = input.get(used..used + 8 * count) else {
                    let need = used + 8 * count - input.len();
                    return Ok(Decoded::Incomplete { need });
                };
                used += ids.len();
                let text = |id: &[u8]| ImageId::from_be_bytes(id.try_into().unwrap()).to_string();
                value["ids"] = ids.chunks(8).map(text).collect();
            }
            Ok(Decoded::Complete { value, used })
        };
        check(&vector, read, |value| {
            let kind = kind_named(value["request"].as_str().unwrap());
            let kind = kind.with_ids(value.get("count").map_or(0, u32_of));
            let keep_alive = value["keep_alive"].as_bool().unwrap();
            let mut out = Vec::new();
            RequestHead::new(kind, keep_alive).encode(&mut out);
            let ids = value.get("ids").and_then(Value::as_array);
            let ids: Vec<ImageId> = ids.into_iter().flatten().map(id_of).collect();
            request::encode_ids(&ids, &mut out);
            out
        });
    }
}

#[test]
fn r1_headers_and_counts() {
    let named = |header: Header| String::from_utf8(header.bytes().to_vec()).unwrap();
    for vector in vectors("head") {
        let read = |input: &[u8]| {
            let (header, used) = match Header::decode(input)? {
                Decoded::Complete { value, used } => (value, used),
                Decoded::Incomplete { need } => return Ok(Decoded::Incomplete { need }),
            };
            let value = json!({"header": named(header)});
            if let Header::Cancelled | Header::Watch | Header::Error = header {
                return Ok(Decoded::Complete { value, used });
            }
            Ok(match response::decode_count(header, &input[used..])? {
                Decoded::Complete {
                    value: count,
                    used: more,
                } => Decoded::Complete {
                    value: json!({"header": named(header), "count": count}),
                    used: used + more,
                },
                Decoded::Incomplete { need } => Decoded::Incomplete { need },
            })
        };
        check(&vector, read, |value| {
            let mut out = Vec::new();
            let bytes = value["header"].as_str().unwrap().as_bytes();
            match Header::decode(bytes) {
                Ok(Decoded::Complete { value: header, .. }) => match header {
                    Header::Data => response::encode_data_head(u8_of(&value["count"]), &mut out),
                    header if header.has_varint() => {
                        response::encode_head(header, u32_of(&value["count"]), &mut out);
                    }
                    _ => out.extend_from_slice(&header.bytes()),
                },
                other => panic!("{other:?}"),
            }
            out
        });
    }
}

#[test]
fn w6_r1_entries() {
    for vector in vectors("entry") {
        let shown = vector.get("value").and_then(|value| value.get("nfc"));
        let read = |input: &[u8]| {
            Ok(entry::decode(input)?.map(|entry| {
                let mut value = json!({
                    "id": entry.id.to_string(),
                    "flags": entry.flags.bits(),
                    "type": type_name(entry.flags),
                    "compressed": entry.flags.is_compressed(),
                    "name": entry.name,
                    "size": entry.length,
                });
                if nfc(entry.name) != entry.name || shown.is_some() {
                    value["nfc"] = nfc(entry.name).into();
                }
                value
            }))
        };
        check(&vector, read, |value| {
            let image = Image::new(
                id_of(&value["id"]),
                Flags::from_bits(u8_of(&value["flags"])),
                u32_of(&value["size"]),
            );
            let entry = entry::Entry::new(value["name"].as_str().unwrap(), image);
            let sent = Flags::new(entry.flags.file_type(), entry.flags.is_compressed());
            assert_eq!(entry.flags, sent, "W4 W5");
            let mut out = Vec::new();
            entry::encode(&entry, &mut out).unwrap();
            out
        });
    }
}

#[test]
fn w4_r1_packet_heads() {
    for vector in vectors("packet") {
        let read = |input: &[u8]| {
            Ok(packet::decode_head(input)?.map(|image| {
                json!({
                    "flags": image.flags.bits(),
                    "type": type_name(image.flags),
                    "compressed": image.flags.is_compressed(),
                    "encrypted": image.flags.is_encrypted(),
                    "length": image.length,
                    "id": image.id.to_string(),
                })
            }))
        };
        check(&vector, read, |value| {
            let image = Image::new(
                id_of(&value["id"]),
                Flags::from_bits(u8_of(&value["flags"])),
                u32_of(&value["length"]),
            );
            let mut out = Vec::new();
            packet::encode_head(&image, &mut out);
            out
        });
    }
}

#[test]
fn r1_error_frames() {
    for vector in vectors("error") {
        let read = |input: &[u8]| {
            let body = match Header::decode(input)? {
                Decoded::Complete { used, .. } => &input[used..],
                Decoded::Incomplete { need } => return Ok(Decoded::Incomplete { need }),
            };
            Ok(match ErrorFrame::decode_body(body)? {
                Decoded::Complete { value, used } => Decoded::Complete {
                    used: response::HEADER_LEN + used,
                    value: json!({
                        "code": value.code.code(),
                        "code_name": value.code.to_string(),
                        "message": value.message,
                    }),
                },
                Decoded::Incomplete { need } => Decoded::Incomplete { need },
            })
        };
        check(&vector, read, |value| {
            let mut out = Vec::new();
            let code = ErrorCode::from_code(u8_of(&value["code"])).unwrap();
            let message = value["message"].as_str().unwrap();
            ErrorFrame::new(code, message).encode(&mut out);
            out
        });
    }
}

/// A new type is complete when this passes: it names what lacks it.
#[test]
fn s10_r1_all_types_of_requests_and_all_headers_are_in_the_vectors_and_in_rfc_md() {
    let text = super::rfc::rfc();
    let of = |files: [&str; 2], field: &str, about: fn(&Value) -> Option<String>| {
        let all = files.into_iter().flat_map(vectors);
        let found = all.flat_map(|vector| match vector.get(field) {
            Some(Value::Array(steps)) => steps.iter().filter_map(about).collect(),
            Some(value) => about(value).into_iter().collect::<Vec<_>>(),
            None => Vec::new(),
        });
        found.collect::<BTreeSet<String>>()
    };
    let frames = of(["request", "request"], "value", |value| {
        Some(value["request"].as_str()?.to_owned())
    });
    let asked = of(["client", "client_states"], "steps", |step| {
        match step.get("cancel") {
            Some(_) => Some("CANCEL".to_owned()),
            None => Some(step["ask"]["request"].as_str()?.to_owned()),
        }
    });
    let received = of(["server", "server_states"], "steps", |step| {
        Some(step["client"].as_str()?.get(..2)?.to_owned())
    });
    for kind in RequestKind::ALL {
        let (code, name) = (kind.code(), kind.name());
        assert!(frames.contains(name), "request.json has no {name}");
        assert!(asked.contains(name), "client.json asks for no {name}");
        let code_is_sent = received.contains(&format!("{code:02X}"));
        assert!(code_is_sent, "server.json receives no {name}");
        let row = format!("\n| {code} | {name} |");
        assert!(text.contains(&row), "RFC.md has no row {row}");
    }
    let unassigned = format!("a type of {} or more", RequestKind::ALL.len());
    assert!(text.contains(&unassigned), "RFC.md, S10: {unassigned}");
    let heads = of(["head", "head"], "value", |value| {
        Some(value["header"].as_str()?.to_owned())
    });
    for header in Header::ALL {
        let name = String::from_utf8(header.bytes().to_vec()).unwrap();
        let known = heads.contains(&name) || header == Header::Error;
        assert!(known, "head.json has no {name}");
        assert!(text.contains(&format!("\n| `{name}` | ")), "RFC.md: {name}");
    }
}
