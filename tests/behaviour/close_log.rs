//! Reads the close reason of connections that the server accepted itself from the tracing events that all adapters
//! emit alike.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::stub::ServerStub;

static STUBS: Mutex<Vec<Weak<ServerStub>>> = Mutex::new(Vec::new());

/// From now on the stub records how its connections end.
pub(crate) fn record_closes(stub: &Arc<ServerStub>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(CloseRecorder).unwrap());
    let mut stubs = STUBS.lock().unwrap_or_else(PoisonError::into_inner);
    stubs.retain(|stub| stub.strong_count() > 0);
    stubs.push(Arc::downgrade(stub));
}

struct CloseRecorder;

#[derive(Default)]
struct CloseEvent {
    address: Option<SocketAddr>,
    reason: Option<String>,
    is_end: bool,
}

impl Visit for CloseEvent {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "peer" => self.address = value.parse().ok(),
            "reason" => self.reason = Some(value),
            "error" => self.reason = Some(format!("lost: {value}")),
            "message" => self.is_end = value == "closed" || value == "connection lost",
            _ => {}
        }
    }
}

impl Subscriber for CloseRecorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("jtp_")
    }

    fn event(&self, event: &Event<'_>) {
        let mut ended = CloseEvent::default();
        event.record(&mut ended);
        if let (Some(address), Some(reason), true) = (ended.address, ended.reason, ended.is_end) {
            let stubs = STUBS.lock().unwrap_or_else(PoisonError::into_inner);
            let stubs: Vec<_> = stubs.iter().filter_map(Weak::upgrade).collect();
            for stub in stubs {
                stub.record_close(address, &reason);
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
