//! Server-sent events: what changes in the catalog while a page is open.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_lite::{Stream, stream};
use jtp_tokio::ShutdownSignal;
use jtp_tokio::jtp_core::Catalog;
use jtp_tokio::store::Subscription;

use super::Gallery;

/// The changes since the snapshot that the page shows. A browser that connects again names the last event that it has
/// seen.
pub(crate) async fn events(
    State(gallery): State<Gallery>,
    Path(generation): Path<u64>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let last_event = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let generation = last_event
        .and_then(|id| id.parse().ok())
        .unwrap_or(generation);
    let catalog = gallery.store.catalog();
    let current = catalog.snapshot();
    let changes = if current.generation() == generation {
        Changes {
            subscription: catalog.subscribe_since(generation),
            shown: current,
            pending: VecDeque::new(),
            shutdown: gallery.shutdown,
        }
    } else {
        // Earlier snapshots are not kept: the page begins again, with what it finds in the browser's cache.
        Changes {
            subscription: catalog.subscribe_since(0),
            shown: Arc::new(Catalog::empty()),
            pending: VecDeque::from([Event::default().event("clear").data("")]),
            shutdown: gallery.shutdown,
        }
    };
    let events = stream::unfold(changes, |mut changes| async move {
        let event = changes.next().await?;
        Some((Ok(event), changes))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

struct Changes {
    subscription: Subscription,
    /// What the page shows once it has all pending events.
    shown: Arc<Catalog>,
    pending: VecDeque<Event>,
    shutdown: ShutdownSignal,
}

impl Changes {
    /// The next event; `None` at shutdown.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            let next = tokio::select! {
                next = self.subscription.changed() => next,
                () = self.shutdown.wait() => return None,
            };
            self.show(next);
        }
    }

    fn show(&mut self, next: Arc<Catalog>) {
        let changes = next.changes_since(&self.shown);
        for entry in changes.removed {
            let event = Event::default().event("removed").data(entry.id.to_string());
            self.pending.push_back(event);
        }
        for entry in changes.added {
            // An event ends at a line break, and a name can hold one.
            let name = entry.name.replace(char::is_control, " ");
            let event = Event::default()
                .event("added")
                .data(format!("{} {name}", entry.id));
            self.pending.push_back(event);
        }
        // The last one names the snapshot: a connection that was lost before it begins again.
        let last = self.pending.pop_back();
        self.pending
            .extend(last.map(|event| event.id(next.generation().to_string())));
        self.shown = next;
    }
}
