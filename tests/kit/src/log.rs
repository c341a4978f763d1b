//! Collects what a test logs.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

thread_local! {
    static MESSAGES: RefCell<Option<Vec<(Level, String)>>> = const { RefCell::new(None) };
}

/// The messages that this thread logs meanwhile.
///
/// The subscriber is the process's, not the thread's: while a process has one subscriber alone, `tracing` asks the thread
/// that comes first to a place in the code whether what is logged there is wanted, and remembers a no of a thread without a
/// subscriber for all of them.
pub fn logged_by(work: impl FnOnce()) -> Vec<(Level, String)> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        tracing::subscriber::set_global_default(Collect).expect("tests install no other one");
    });
    MESSAGES.set(Some(Vec::new()));
    work();
    MESSAGES.take().unwrap_or_default()
}

/// Collects the messages of the threads that ask for it.
struct Collect;

struct Message(Level);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            MESSAGES.with_borrow_mut(|messages| {
                if let Some(messages) = messages {
                    messages.push((self.0, format!("{value:?}")));
                }
            });
        }
    }
}

impl Subscriber for Collect {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Message(*event.metadata().level()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
