//! What a run needs of a client, and of everything around it: the reference and the adapters each have one.

use jtp_core::client::CatalogEntry;
use jtp_core::client::HaveSet;
use jtp_core::{Image, ImageId};

use super::store::Store;

pub(crate) type Entry = CatalogEntry<'static>;

/// An error, as the log tells it.
pub(crate) type Failure = String;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Get(Vec<ImageId>),
    Batch(HaveSet),
    All,
}

/// What the application sees of images as they come.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    Image(Image),
    Bytes(&'a [u8]),
    Good,
    Fault { fault: String, last: bool },
    Interrupted,
}

/// What it does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Go,
    /// Drops the image, and waits for the next.
    Skip,
    Cancel,
    Leave,
}

/// What is left to tell of a request that has come to its end.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) cancelled: bool,
    pub(crate) absent: Vec<ImageId>,
    pub(crate) promised: u64,
}

/// What a watcher is told.
#[derive(Debug)]
pub(crate) enum News {
    /// The request is made; with the catalog, if that was asked for.
    Begun(Option<Vec<Entry>>),
    Image(Entry),
}

/// What it does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Wait,
    Cancel,
    Leave,
}

/// The public face of each adapter's client, called from a thread.
pub(crate) trait ClientEnd {
    fn list(&mut self) -> Result<Vec<Entry>, Failure>;

    fn fetch(
        &mut self,
        ask: &Ask,
        see: &mut dyn FnMut(Seen<'_>) -> Next,
    ) -> Result<Fetched, Failure>;

    /// Cancels before anything was asked for, or after everything has come.
    fn cancel_nothing(&mut self, ask: &Ask, after: bool) -> Result<(), Failure>;

    /// Until the application ends it or an error does; what CANCEL gave, if that ended it.
    fn watch(
        &mut self,
        list: bool,
        see: &mut dyn FnMut(News) -> Then,
    ) -> Result<Option<Vec<Entry>>, Failure>;

    fn close(&mut self);
}

/// What is around a client: the server, and the transport between the two.
pub(crate) trait Stage {
    fn store(&self) -> &Store;
    fn shutdown(&self);
    fn hold(&self);
    fn stall(&self);
    fn await_end(&self);
    fn outlast(&self, time: std::time::Duration);
    /// Lets the beacon blink until [`Stage::beacon_seen`].
    fn beacon(&self);
    fn beacon_seen(&self);
}
