//! Reads from the tracing events that all adapters emit alike how many bytes a server has used of each connection, and
//! why it closed those that it accepted itself.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::stub::ServerStub;

static STUBS: Mutex<Vec<Weak<ServerStub>>> = Mutex::new(Vec::new());

/// From now on the stub records what the server reports about its connections.
pub(crate) fn record_events(stub: &Arc<ServerStub>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Recorder).unwrap());
    let mut stubs = STUBS.lock().unwrap_or_else(PoisonError::into_inner);
    stubs.retain(|stub| stub.strong_count() > 0);
    stubs.push(Arc::downgrade(stub));
}

struct Recorder;

#[derive(Default)]
struct ConnectionEvent {
    address: Option<SocketAddr>,
    message: String,
    reason: String,
    bytes: u64,
}

impl Visit for ConnectionEvent {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "bytes" {
            self.bytes = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "peer" => self.address = value.parse().ok(),
            "reason" => self.reason = value,
            "error" => self.reason = format!("lost: {value}"),
            "message" => self.message = value,
            _ => {}
        }
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("jtp_")
    }

    fn event(&self, event: &Event<'_>) {
        let mut seen = ConnectionEvent::default();
        event.record(&mut seen);
        let Some(address) = seen.address else {
            return;
        };
        let stubs: Vec<_> = {
            let stubs = STUBS.lock().unwrap_or_else(PoisonError::into_inner);
            stubs.iter().filter_map(Weak::upgrade).collect()
        };
        for stub in stubs {
            match &*seen.message {
                "received" => stub.record_received(address, seen.bytes),
                "closed" | "connection lost" => stub.record_close(address, &seen.reason),
                _ => {}
            }
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
