//! What a script needs of a client and of its environment. The reference and the adapters each implement both
//! traits.

use std::error::Error;

use jtp_core::client::CatalogEntry;
use jtp_core::client::HaveSet;
use jtp_core::{Image, ImageId};

use super::store::SimulatedStore;

pub(crate) type Entry = CatalogEntry<'static>;

/// An error, as text for the log.
pub(crate) type Failure = String;

/// An error and its causes.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> Failure {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Which images a client requests.
#[derive(Clone, Debug)]
pub(crate) enum ImageRequest {
    Get(Vec<ImageId>),
    Batch(HaveSet),
    All,
}

/// What the client's application observes while images arrive.
#[derive(Debug)]
pub(crate) enum ImageEvent<'a> {
    Image(Image),
    Bytes(&'a [u8]),
    Verified,
    Fault { fault: String, last: bool },
    Interrupted,
}

/// What the application does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FetchControl {
    Continue,
    /// Drops the image and waits for the next one.
    Skip,
    Cancel,
    Drop,
}

/// The result of a fetch that ended without an error.
#[derive(Debug, Default)]
pub(crate) struct FetchOutcome {
    pub(crate) cancelled: bool,
    pub(crate) absent: Vec<ImageId>,
    pub(crate) promised: u64,
}

/// What the application observes during a watch.
#[derive(Debug)]
pub(crate) enum WatchEvent {
    /// The request has been sent; with the catalog, if it was requested.
    Started(Option<Vec<Entry>>),
    NewImage(Entry),
}

/// What the application does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchControl {
    Wait,
    Cancel,
    Drop,
}

/// The public API of an adapter's client, as blocking calls.
pub(crate) trait ClientUnderTest {
    fn list(&mut self) -> Result<Vec<Entry>, Failure>;

    fn fetch(
        &mut self,
        request: &ImageRequest,
        on_event: &mut dyn FnMut(ImageEvent<'_>) -> FetchControl,
    ) -> Result<FetchOutcome, Failure>;

    /// Calls `cancel` before any request was sent, or after the response is complete.
    fn cancel_idle(&mut self, request: &ImageRequest, after: bool) -> Result<(), Failure>;

    /// Watches until the application or an error ends the watch. Returns the events that came after CANCEL, if CANCEL
    /// ended it.
    fn watch(
        &mut self,
        list: bool,
        on_event: &mut dyn FnMut(WatchEvent) -> WatchControl,
    ) -> Result<Option<Vec<Entry>>, Failure>;

    fn close(&mut self);
}

/// The environment of a client: the server and the transport between the two.
pub(crate) trait Environment {
    fn store(&self) -> &SimulatedStore;
    fn shutdown(&self);
    fn hold(&self);
    fn stall(&self);
    fn await_closed(&self);
    /// Calls `send`, and waits until the server has used this number of bytes.
    fn await_received(&self, bytes: usize, send: &mut dyn FnMut());
    fn wait(&self, time: std::time::Duration);
    /// Adds and removes the probe image repeatedly until [`Environment::probe_received`].
    fn start_probe(&self);
    fn probe_received(&self);
}
