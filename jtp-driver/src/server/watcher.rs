//! What a connection holds while it watches.

use std::task::{Context, Poll};

use jtp_core::Time;
use jtp_core::server::ServerConnection;

use super::limits::WatcherPermit;
use super::observe::WatcherGuard;
use crate::store::Subscription;

/// A connection in WATCH.
pub(super) struct Watcher {
    subscription: Subscription,
    /// `None` without a limit, and once the watcher has to end.
    permit: Option<WatcherPermit>,
    _counted: WatcherGuard,
}

impl Watcher {
    pub(super) fn new(
        subscription: Subscription,
        (counted, permit): (WatcherGuard, Option<WatcherPermit>),
    ) -> Watcher {
        Watcher {
            subscription,
            permit,
            _counted: counted,
        }
    }

    /// Passes changes of the catalog to the machine, and ends the WATCH if there are too many. Returns whether anything
    /// happened.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        machine: &mut ServerConnection,
        now: impl Fn() -> Time,
    ) -> bool {
        let mut progress = false;
        if let Poll::Ready(catalog) = self.subscription.poll_changed(cx) {
            machine.catalog_changed(&catalog, now());
            progress = true;
        }
        let evicted = self.permit.take_if(|permit| permit.poll_evicted(cx));
        if evicted.is_some() {
            machine.end_watch(now()); // T8
            progress = true;
        }
        progress
    }

    /// Notes whether output is not sent yet.
    pub(super) fn set_busy(&self, busy: bool) {
        if let Some(permit) = &self.permit {
            permit.set_busy(busy);
        }
    }
}
