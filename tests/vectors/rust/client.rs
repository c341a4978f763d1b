//! Exchanges with the client's machine, with what comes cut in several ways.

use jtp_core::client::{
    ClientConfig, ClientConnection, ClientError, Event, HaveSet, PeerError, Request, ResponseKind,
};
use jtp_core::wire::WireError;
use jtp_core::{ImageFault, ImageId, Time};
use serde_json::{Value, json};

use crate::read::{Vector, bytes, vectors};

const NOW: Time = Time::ZERO;

/// The machine, what it sent, and what it told, as the vectors write it.
struct Scene {
    connection: ClientConnection,
    sent: Vec<u8>,
    events: Vec<Value>,
    /// The decoded bytes of the image under way.
    data: Vec<u8>,
    /// How many bytes came before the last piece.
    came: usize,
    cut: usize,
}

impl Scene {
    fn new(vector: &Vector, cut: usize) -> Scene {
        let option = |name: &str| vector.get("options")?.get(name);
        let mut config = ClientConfig::new();
        if let Some(pipeline) = option("pipeline").and_then(Value::as_bool) {
            config = config.with_pipeline(pipeline);
        }
        if let Some(most) = option("max_image_size").and_then(Value::as_u64) {
            config = config.with_max_image_size(most);
        }
        Scene {
            connection: ClientConnection::new(config, NOW),
            sent: Vec::new(),
            events: Vec::new(),
            data: Vec::new(),
            came: 0,
            cut,
        }
    }

    fn send(&mut self) {
        while !self.connection.transmit().is_empty() {
            self.sent.extend_from_slice(self.connection.transmit());
            let all = self.connection.transmit().len();
            self.connection.transmitted(all, NOW).unwrap();
        }
    }

    fn receive(&mut self, mut piece: &[u8]) {
        let whole = piece.len();
        loop {
            let error = match self.connection.receive(piece, NOW) {
                Ok(received) => {
                    piece = &piece[received.used..];
                    let Some(event) = received.event else {
                        break;
                    };
                    if let Event::Data(data) = event {
                        self.data.extend_from_slice(data);
                    } else if let Some(told) = written(&event, &mut self.data) {
                        self.events.push(told);
                    }
                    self.send();
                    continue;
                }
                Err(error) => error,
            };
            // It stays the same however often one asks.
            if !self.events.last().is_some_and(is_failure) {
                let mut told = failure(&error);
                // One byte at a time: the byte that makes the difference.
                if self.cut == 1 && told.get("failed").is_some() {
                    told["at"] = self.came.into();
                }
                self.events.push(told);
            }
            break;
        }
        self.came += whole;
    }

    fn step(&mut self, step: &Value, label: &str) {
        let (what, with) = step.as_object().unwrap().iter().next().unwrap();
        match (what.as_str(), with) {
            ("ask", with) => {
                let ids = with.get("ids").and_then(Value::as_array);
                let ids = ids.into_iter().flatten().map(|id| id.as_str().unwrap());
                let ids: Vec<ImageId> = ids.map(|id| id.parse().unwrap()).collect();
                let request = match with["request"].as_str().unwrap() {
                    "LIST" => Request::List,
                    "GET_BY_ID" => Request::GetById(ids),
                    "BATCH" => Request::Batch(HaveSet::try_from(ids).unwrap()),
                    "LIST_AND_GET" => Request::ListAndGet,
                    "WATCH" => Request::Watch,
                    other => panic!("{label}: {other}"),
                };
                let keep_alive = with["keep_alive"].as_bool().unwrap();
                self.connection.request(request, keep_alive, NOW).unwrap();
            }
            ("cancel", _) => self.connection.cancel(NOW).unwrap(),
            ("sent", Value::String(text)) => {
                assert_eq!(std::mem::take(&mut self.sent), bytes(text), "{label}");
            }
            ("server", Value::String(text)) => {
                for piece in bytes(text).chunks(self.cut) {
                    self.receive(piece);
                }
            }
            ("server_ends", _) => match self.connection.receive_eof(NOW) {
                Ok(()) => self.events.push(json!({"closed": true})),
                Err(error) => self.events.push(failure(&error)),
            },
            ("events", Value::Array(events)) => {
                let due = events.iter().map(|event| self.expected(event));
                let due: Vec<Value> = due.collect();
                assert_eq!(std::mem::take(&mut self.events), due, "{label}");
            }
            other => panic!("{label}: no step {other:?}"),
        }
        self.send();
    }

    /// An event as the vector has it, in the form of ours.
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

fn is_failure(event: &Value) -> bool {
    event.get("failed").is_some() || event.get("error").is_some()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn name(kind: ResponseKind) -> &'static str {
    match kind {
        ResponseKind::GetById => "GET_BY_ID",
        ResponseKind::List => "LIST",
        ResponseKind::Batch => "BATCH",
        ResponseKind::ListAndGet => "LIST_AND_GET",
        ResponseKind::Watch => "WATCH",
    }
}

fn written(event: &Event<'_>, data: &mut Vec<u8>) -> Option<Value> {
    Some(match event {
        Event::Begin { kind, count } => json!({"begin": name(*kind), "count": count}),
        Event::Entry(entry) | Event::NewImage(entry) => {
            let is_news = matches!(event, Event::NewImage(_));
            let told = json!({
                "id": entry.id.to_string(),
                "flags": entry.flags.bits(),
                "name": entry.name,
                "size": entry.size,
            });
            json!({if is_news { "new_image" } else { "entry" }: told})
        }
        Event::Image(image) => {
            data.clear();
            json!({"image": {
                "id": image.id.to_string(),
                "flags": image.flags.bits(),
                "length": image.length,
            }})
        }
        Event::ImageEnd { image, verdict } => {
            let mut told = json!({"image_end": image.id.to_string(), "verdict": match verdict {
                Ok(()) => "good",
                Err(ImageFault::WrongId { .. }) => "wrong_id",
                Err(ImageFault::Broken(_)) => "broken",
                Err(ImageFault::TooLarge { .. }) => "too_large",
                Err(ImageFault::Encrypted) => "encrypted",
                Err(other) => panic!("{other}"),
            }});
            if verdict.is_ok() {
                told["data"] = hex(data).into();
            }
            told
        }
        Event::End { kind } => json!({"end": name(*kind)}),
        Event::Cancelled { kind } => json!({"cancelled": name(*kind)}),
        _ => return None,
    })
}

fn failure(error: &ClientError) -> Value {
    let why = match error {
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
    json!({"failed": why})
}

#[test]
fn exchanges_of_a_client() {
    for vector in ["client", "client_states"].into_iter().flat_map(vectors) {
        for cut in (1..60).chain([usize::MAX]) {
            let label = format!("{}, cut by {cut}", vector.label);
            let mut scene = Scene::new(&vector, cut);
            for step in vector.list("steps") {
                scene.step(step, &label);
            }
            assert!(scene.sent.is_empty(), "{label}: {:02x?}", scene.sent);
            assert!(scene.events.is_empty(), "{label}: {:?}", scene.events);
        }
    }
}
