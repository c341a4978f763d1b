//! The entries of a LIST, one at a time.

use jtp_core::client::{CatalogEntry, ClientError, Event, Request};

use super::watch::Watch;
use super::{Client, Error};
use crate::runtime::Runtime;

/// The catalog of a server, entry by entry, in its order: no entry is kept. // R3 S5
///
/// The request is made with the first [`next`](Entries::next). Nothing is tried again after a lost connection: the caller
/// knows how many entries have arrived, and decides. Dropping it abandons the request: the next one connects again; over
/// a stream of the caller it discards the rest of the response first.
#[derive(Debug)]
#[must_use]
pub struct Entries<'c, R: Runtime> {
    client: &'c mut Client<R>,
    /// Whether WATCH follows.
    watch: bool,
    state: State,
    announced: u64,
    received: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Receiving,
    Done,
    Failed,
}

impl<'c, R: Runtime> Entries<'c, R> {
    pub(super) fn new(client: &'c mut Client<R>, watch: bool) -> Self {
        Entries {
            client,
            watch,
            state: State::Idle,
            announced: 0,
            received: 0,
        }
    }

    /// The next entry; `None` when all have arrived. Cancel safe, but for the first call: a dropped future loses at most a
    /// connection that was being made.
    ///
    /// # Errors
    ///
    /// [`Error`]. After an error all calls fail.
    pub async fn next(&mut self) -> Result<Option<CatalogEntry<'static>>, Error> {
        match self.state {
            State::Done => return Ok(None),
            State::Failed => return Err(Error::Failed),
            State::Idle | State::Receiving => {}
        }
        let next = self.receive().await;
        match &next {
            Ok(Some(_)) => self.received += 1,
            Ok(None) => {
                self.state = State::Done;
                if !self.watch {
                    self.client.response_done().await;
                }
            }
            Err(error) => {
                self.state = State::Failed;
                if !matches!(error, Error::Misuse(_)) {
                    self.client.connection = None;
                }
            }
        }
        next
    }

    async fn receive(&mut self) -> Result<Option<CatalogEntry<'static>>, Error> {
        if self.state == State::Idle {
            let keep_alive = self.client.options.keep_alive || self.watch;
            let connection = self.client.connection().await?;
            connection.request(Request::List, keep_alive)?;
            if self.watch {
                connection.request(Request::Watch, true)?;
            }
            self.state = State::Receiving;
        }
        let Some(connection) = &mut self.client.connection else {
            return Err(Error::Failed);
        };
        loop {
            match connection.next().await? {
                Some(Event::Begin { count, .. }) => self.announced = u64::from(count),
                Some(Event::Entry(entry)) => return Ok(Some(entry)),
                Some(Event::End { .. }) => return Ok(None),
                Some(_) => {}
                None => return Err(Error::Protocol(ClientError::EarlyEof)),
            }
        }
    }

    /// The number of entries that the server has announced; 0 before the response begins.
    #[must_use]
    pub fn announced(&self) -> u64 {
        self.announced
    }

    /// The number of entries that have arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The images that enter the catalog after this LIST. For entries of
    /// [`Client::entries_and_watch`](super::Client::entries_and_watch), once all have arrived. // N5
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if not all entries have arrived, or no WATCH was requested.
    pub fn into_watch(self) -> Result<Watch<'c, R>, Error> {
        match self.watch && self.state == State::Done {
            true => Ok(Watch {
                client: self.client,
            }),
            false => Err(Error::Failed),
        }
    }
}
