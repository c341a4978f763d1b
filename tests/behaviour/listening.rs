//! Why the server ended a connection that it accepted itself: the adapters log it, all in the same words, and
//! this listens.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::court::Court;

static COURTS: Mutex<Vec<Weak<Court>>> = Mutex::new(Vec::new());

/// From now on the court is told of the ends of its connections.
pub(crate) fn listen(court: &Arc<Court>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
    let mut courts = COURTS.lock().unwrap_or_else(PoisonError::into_inner);
    courts.retain(|court| court.strong_count() > 0);
    courts.push(Arc::downgrade(court));
}

struct Listener;

#[derive(Default)]
struct Ended {
    address: Option<SocketAddr>,
    why: Option<String>,
    is_end: bool,
}

impl Visit for Ended {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "address" => self.address = value.parse().ok(),
            "reason" => self.why = Some(value),
            "error" => self.why = Some(format!("lost: {value}")),
            "message" => self.is_end = value == "closed" || value == "connection lost",
            _ => {}
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("jtp_")
    }

    fn event(&self, event: &Event<'_>) {
        let mut ended = Ended::default();
        event.record(&mut ended);
        if let (Some(address), Some(why), true) = (ended.address, ended.why, ended.is_end) {
            let courts = COURTS.lock().unwrap_or_else(PoisonError::into_inner);
            let courts: Vec<_> = courts.iter().filter_map(Weak::upgrade).collect();
            for court in courts {
                court.ends(address, &why);
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
