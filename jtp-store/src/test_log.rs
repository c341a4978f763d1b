//! Collects what is logged.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

/// The messages that this thread logs meanwhile.
pub(crate) fn logged_by(work: impl FnOnce()) -> Vec<String> {
    let messages = Messages::default();
    tracing::subscriber::with_default(messages.clone(), work);
    let mut messages = messages.0.lock().unwrap_or_else(PoisonError::into_inner);
    mem::take(&mut messages)
}

impl Visit for Messages {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let mut messages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            messages.push(format!("{value:?}"));
        }
    }
}

impl Subscriber for Messages {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
