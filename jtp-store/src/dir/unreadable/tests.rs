//! Tests of what the log says of folders that cannot be read.

use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;
use crate::dir::select::Naming;

/// Collects the messages.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

impl Visit for Messages {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
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

#[test]
fn w9_the_log_says_when_a_folder_cannot_be_read_and_when_it_can_again() {
    let messages = Messages::default();
    let refused = || {
        vec![(
            Name::from(OsStr::new("a")),
            io::ErrorKind::PermissionDenied.into(),
        )]
    };
    let name = Name::from(OsStr::new("b/c.png"));
    tracing::subscriber::with_default(messages.clone(), || {
        let log = FileLog::new(Naming::Tree);
        let mut unreadable = Unreadable::default();
        for found in [refused(), refused(), Vec::new(), Vec::new()] {
            unreadable.set_folders(&Scope::Whole, &found, false, &log);
        }
        unreadable.insert(&name, None, "permission denied", &log);
        unreadable.remove(&name, true, &log);
    });
    let messages = messages.0.lock().unwrap();
    let expected = [
        "cannot read a sub-folder",
        "a sub-folder can be read again",
        "cannot read images of a folder",
        "all images of a folder can be read again",
    ];
    assert_eq!(messages.len(), expected.len(), "{messages:?}");
    for (message, expected) in messages.iter().zip(expected) {
        assert!(message.starts_with(expected), "{messages:?}");
    }
}
