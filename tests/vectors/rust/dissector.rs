//! The bytes of all exchanges, split into frames without the state of a client or server.

use jtp_core::wire::response::{ErrorCode, ErrorFrame};
use jtp_core::wire::{Decoded, Dissector, Frame, WireError};
use serde_json::Value;

use crate::read::{Vector, bytes, vectors};

/// A frame, with the spans of one body or one list of IDs joined.
#[derive(Debug, PartialEq)]
enum Part {
    Frame(String),
    Span(Vec<u8>),
}

/// The frames of a stream, and what the dissector says at the end.
#[derive(Debug, PartialEq)]
struct Dissected {
    parts: Vec<Part>,
    end: Result<bool, WireError>,
}

fn dissect(mut dissector: Dissector, stream: &[u8], cut: usize) -> Dissected {
    let mut parts: Vec<Part> = Vec::new();
    let mut buffer = Vec::new();
    for piece in stream.chunks(cut) {
        buffer.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match dissector.decode(&buffer[at..]) {
                Ok(Decoded::Complete { value, used }) => {
                    at += used;
                    match (value, parts.last_mut()) {
                        (Frame::Ids(more) | Frame::Body(more), Some(Part::Span(span))) => {
                            span.extend_from_slice(more);
                        }
                        (Frame::Ids(span) | Frame::Body(span), _) => {
                            parts.push(Part::Span(span.to_vec()));
                        }
                        (frame, _) => parts.push(Part::Frame(format!("{frame:?}"))),
                    }
                }
                Ok(Decoded::Incomplete { .. }) => break,
                Err(error) => {
                    let end = Err(error);
                    return Dissected { parts, end };
                }
            }
        }
        buffer.drain(..at);
    }
    let end = Ok(dissector.is_at_boundary() && buffer.is_empty());
    Dissected { parts, end }
}

/// The outcome for the whole stream, checked to be that of each cut.
fn check(label: &str, dissector: &Dissector, stream: &[u8]) -> Result<bool, WireError> {
    let whole = dissect(dissector.clone(), stream, usize::MAX);
    for cut in [1, 2, 3, 7, 11] {
        let mut parts = dissect(dissector.clone(), stream, cut);
        // A header is reported with its first wrong byte and what was there behind it.
        if let (Err(WireError::UnknownHeader(_)), Err(WireError::UnknownHeader(_))) =
            (&parts.end, &whole.end)
        {
            parts.end = whole.end;
        }
        assert_eq!(parts, whole, "{label} in pieces of {cut}");
    }
    whole.end
}

/// The bytes of all steps of a name, one after another.
fn stream(vector: &Vector, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for with in vector
        .list("steps")
        .iter()
        .filter_map(|step| step.get(name))
    {
        add(with, &mut out);
    }
    out
}

fn add(part: &Value, out: &mut Vec<u8>) {
    match part {
        Value::String(text) => out.extend(bytes(text)),
        Value::Array(parts) => parts.iter().for_each(|part| add(part, out)),
        _ => {
            let code = u8::try_from(part["error"].as_u64().unwrap()).unwrap();
            ErrorFrame::new(ErrorCode::from_code(code).unwrap(), "any").encode(out);
        }
    }
}

#[test]
fn what_a_server_sends_is_dissected_without_errors() {
    for kind in ["server", "server_states"] {
        for vector in vectors(kind) {
            let label = &vector.label;
            let mut out = stream(&vector, "server");
            if let Some(any) = vector
                .list("steps")
                .iter()
                .find_map(|step| step.get("server_any"))
            {
                add(&any[0], &mut out);
            }
            let end = check(label, &Dissector::server_to_client(), &out);
            assert_eq!(end, Ok(true), "{label}");
        }
    }
}

#[test]
fn what_a_client_sends_is_dissected_without_errors() {
    for kind in ["client", "client_states"] {
        for vector in vectors(kind) {
            let out = stream(&vector, "sent");
            let end = check(&vector.label, &Dissector::client_to_server(), &out);
            assert_eq!(end, Ok(true), "{}", vector.label);
        }
    }
}

#[test]
fn what_breaks_the_framing_is_an_error_and_nothing_else_is() {
    for kind in ["client", "client_states"] {
        for vector in vectors(kind) {
            let out = stream(&vector, "server");
            let end = check(&vector.label, &Dissector::server_to_client(), &out);
            let steps = vector.list("steps").iter();
            let events = steps.filter_map(|step| step.get("events")?.as_array());
            let failure = events
                .flatten()
                .find_map(|event| event.get("failed")?.as_str());
            match failure {
                None => assert!(end.is_ok(), "{}: {end:?}", vector.label),
                Some(
                    "varint" | "header" | "entry_flags" | "packet_flags" | "name" | "error_code"
                    | "not_a_packet",
                ) => assert!(end.is_err(), "{}: {end:?}", vector.label),
                // The bytes are frames; only the order of requests and responses is wrong.
                Some(_) => {}
            }
        }
    }
    for kind in ["server", "server_states"] {
        for vector in vectors(kind) {
            let out = stream(&vector, "client");
            let _ = check(&vector.label, &Dissector::client_to_server(), &out);
        }
    }
}
