//! Exchanges with the client state machine and its model, with the input split in several ways.

use jtp_core::client::{ClientConfig, ClientError, Event, PeerError, Request, ResponseKind};
use jtp_core::wire::WireError;
use jtp_core::wire::request::RequestKind;
use jtp_core::{ImageFault, ImageId, Time};
use serde_json::{Value, json};

use crate::read::{Vector, bytes, kind_named, vectors};
use crate::simulation::client::Client;

const NOW: Time = Time::ZERO;

/// The state machine and the model that follows it, the bytes it sent, and its events in the format of the vectors.
struct Exchange {
    client: Client,
    sent: Vec<u8>,
    events: Vec<Value>,
    /// The number of bytes received before the current piece.
    received: usize,
    cut: usize,
}

impl Exchange {
    fn new(vector: &Vector, cut: usize) -> Exchange {
        let option = |name: &str| vector.get("options")?.get(name);
        let mut config = ClientConfig::new();
        if let Some(pipeline) = option("pipeline").and_then(Value::as_bool) {
            config = config.with_pipeline(pipeline);
        }
        if let Some(max) = option("max_image_size").and_then(Value::as_u64) {
            config = config.with_max_image_size(max);
        }
        Exchange {
            client: Client::new(config, NOW),
            sent: Vec::new(),
            events: Vec::new(),
            received: 0,
            cut,
        }
    }

    fn send(&mut self) {
        while !self.client.offered.is_empty() {
            self.sent.extend(self.client.send(usize::MAX, NOW));
        }
    }

    fn receive(&mut self, mut piece: &[u8]) {
        let length = piece.len();
        let was_over = self.client.has_ended;
        while let (used, Some(_)) = self.client.receive(piece, NOW) {
            piece = &piece[used..];
            let event = self.client.last.take().expect("an event");
            self.events.extend(encode_event(&event, &self.client.data));
            self.send();
        }
        // The error is sticky and recorded once.
        if let Some(error) = self.client.machine.fault().filter(|_| !was_over) {
            let mut value = failure(error);
            // With one byte at a time, the offset of the byte that causes the failure is known.
            if self.cut == 1 && value.get("failed").is_some() {
                value["at"] = self.received.into();
            }
            self.events.push(value);
        }
        self.received += length;
    }

    fn step(&mut self, step: &Value, label: &str) {
        let (what, with) = step.as_object().unwrap().iter().next().unwrap();
        match (what.as_str(), with) {
            ("ask", with) => {
                let ids = with.get("ids").and_then(Value::as_array);
                let ids = ids.into_iter().flatten().map(|id| id.as_str().unwrap());
                let ids: Vec<ImageId> = ids.map(|id| id.parse().unwrap()).collect();
                let kind = kind_named(with["request"].as_str().unwrap());
                let request = Request::of(kind, ids).unwrap();
                let keep_alive = with["keep_alive"].as_bool().unwrap();
                assert!(self.client.request(&request, keep_alive, NOW), "{label}");
            }
            ("cancel", _) => assert!(self.client.cancel(NOW), "{label}"),
            ("sent", Value::String(text)) => {
                assert_eq!(std::mem::take(&mut self.sent), bytes(text), "{label}");
            }
            ("server", Value::String(text)) => {
                for piece in bytes(text).chunks(self.cut) {
                    self.receive(piece);
                }
            }
            ("server_ends", _) => {
                self.client.end(NOW);
                let fault = self.client.machine.fault();
                self.events
                    .push(fault.map_or(json!({"closed": true}), failure));
            }
            ("events", Value::Array(events)) => {
                let expected = events.iter().map(|event| self.expected(event));
                let expected: Vec<Value> = expected.collect();
                assert_eq!(std::mem::take(&mut self.events), expected, "{label}");
            }
            other => panic!("{label}: no step {other:?}"),
        }
        self.send();
    }

    /// An event of the vector, in the format of the recorded ones.
    fn expected(&self, event: &Value) -> Value {
        let mut event = event.clone();
        if let Some(Value::String(text)) = event.get("data") {
            event["data"] = hex(&bytes(text)).into();
        }
        if self.cut != 1 && event.get("at").is_some() {
            event.as_object_mut().unwrap().remove("at");
        }
        event
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn name(kind: ResponseKind) -> &'static str {
    let answered_by = |request: &RequestKind| {
        Request::of(*request, Vec::new()).is_some_and(|request| request.kind() == kind)
    };
    let request = RequestKind::ALL.into_iter().find(answered_by);
    request.expect("a response answers a request").name()
}

fn encode_event(event: &Event<'_>, data: &[u8]) -> Option<Value> {
    Some(match event {
        Event::Begin { kind, count } => json!({"begin": name(*kind), "count": count}),
        Event::Entry(entry) | Event::NewImage(entry) => {
            let is_new_image = matches!(event, Event::NewImage(_));
            let value = json!({
                "id": entry.id.to_string(),
                "flags": entry.flags.bits(),
                "name": entry.name,
                "size": entry.length,
            });
            json!({if is_new_image { "new_image" } else { "entry" }: value})
        }
        Event::Image(image) => json!({"image": {
            "id": image.id.to_string(),
            "flags": image.flags.bits(),
            "length": image.length,
        }}),
        Event::ImageEnd { image, verdict } => {
            let mut value = json!({"image_end": image.id.to_string(), "verdict": match verdict {
                Ok(_) => "good",
                Err(ImageFault::WrongId { .. }) => "wrong_id",
                Err(ImageFault::Broken(_)) => "broken",
                Err(ImageFault::TooLarge { .. }) => "too_large",
                Err(ImageFault::Encrypted) => "encrypted",
                Err(other) => panic!("{other}"),
            }});
            if verdict.is_ok() {
                value["data"] = hex(data).into();
            }
            value
        }
        Event::End { kind } => json!({"end": name(*kind)}),
        Event::Cancelled { kind } => json!({"cancelled": name(*kind)}),
        _ => return None,
    })
}

fn failure(error: &ClientError) -> Value {
    let reason = match error {
        ClientError::Server(error) => {
            return json!({"error": {"code": error.code.code(), "message": error.message}});
        }
        ClientError::EarlyEof => "early_end",
        ClientError::Peer(PeerError::Wire { error, .. }) => match error {
            WireError::Varint => "varint",
            WireError::UnknownHeader(_) => "header",
            WireError::EntryFlags(_) => "entry_flags",
            WireError::PacketFlags(_) => "packet_flags",
            WireError::Name => "name",
            WireError::UnknownErrorCode(_) => "error_code",
            other => panic!("{other}"),
        },
        ClientError::Peer(PeerError::UnexpectedResponse { .. }) => "not_the_answer",
        ClientError::Peer(PeerError::NotAPacket(_)) => "not_a_packet",
        ClientError::Peer(PeerError::UnexpectedCancelled) => "cancelled_unasked",
        ClientError::Peer(PeerError::UnexpectedWatchEvent) => "news_unasked",
        ClientError::Peer(PeerError::UnexpectedData) => "data_unasked",
        ClientError::Peer(PeerError::TooManyImages { .. }) => "too_many_images",
        ClientError::Peer(PeerError::UnrequestedImage(_)) => "image_unasked",
        other => panic!("{other}"),
    };
    json!({"failed": reason})
}

#[test]
fn c7_r1_r7_n3_client_exchanges() {
    for vector in ["client", "client_states"].into_iter().flat_map(vectors) {
        for cut in (1..60).chain([usize::MAX]) {
            let label = format!("{}, cut by {cut}", vector.label);
            let mut exchange = Exchange::new(&vector, cut);
            for step in vector.list("steps") {
                exchange.step(step, &label);
            }
            assert!(exchange.sent.is_empty(), "{label}: {:02x?}", exchange.sent);
            assert!(exchange.events.is_empty(), "{label}: {:?}", exchange.events);
        }
    }
}
