//! The entries of a catalog, one at a time.

use jtp_core::Misuse;
use jtp_core::client::{CatalogEntry, ClientError, Event, Request};

use super::catalog::Catalog;
use super::{Client, Error, Watch};
use crate::runtime::Runtime;

/// The entries of a catalog in the server's order, one at a time, in constant memory. // S5
///
/// Nothing is retried: after an error the entries that were returned remain valid, and the caller decides whether to
/// request the catalog again. Some deployed servers announce one entry more than they send, and close the connection
/// instead.
///
/// Dropping it before the end abandons the request, as for [`Client::list`].
#[derive(Debug)]
#[must_use]
pub struct Entries<'c, R: Runtime> {
    client: &'c mut Client<R>,
    next: Next,
    state: State,
    announced: Option<u64>,
    received: u64,
}

/// What is requested in the same write as the LIST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// WATCH. // N5
    Watch,
    /// LIST_AND_GET.
    AllImages,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The request is not made yet.
    New,
    Active,
    Done,
    Failed,
}

impl<'c, R: Runtime> Entries<'c, R> {
    pub(super) fn new(client: &'c mut Client<R>, next: Next) -> Self {
        Entries {
            client,
            next,
            state: State::New,
            announced: None,
            received: 0,
        }
    }

    /// The next entry; `None` after the last one. The first call makes the request, and connects if there is no usable
    /// connection. Cancel safe: a dropped future loses at most a connection that was being made.
    ///
    /// # Errors
    ///
    /// [`Error`]; it is final, and later calls return [`Error::Failed`].
    pub async fn next(&mut self) -> Result<Option<CatalogEntry<'static>>, Error> {
        let next = match self.state {
            State::New => match self.request().await {
                Ok(()) => self.event().await,
                Err(error) => Err(error),
            },
            State::Active => self.event().await,
            State::Done => return Ok(None),
            State::Failed => return Err(Error::Failed),
        };
        if let Err(error) = &next {
            self.state = State::Failed;
            self.client.lose_connection(error);
        }
        next
    }

    /// The number of entries that the server announced before the first one; `None` until it has.
    #[must_use]
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// The number of entries received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The watch that [`Client::entries_and_watch`] requested, after the last entry. // N5
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`]: [`Misuse::NotWatching`] if no WATCH was requested or [`next`](Self::next) has not returned
    /// `None` yet, [`Misuse::Closed`] after an error.
    pub fn into_watch(self) -> Result<Watch<'c, R>, Error> {
        match self.state {
            State::Done if self.next == Next::Watch => Ok(Watch {
                client: self.client,
            }),
            State::Failed => Err(Error::Misuse(Misuse::Closed)),
            _ => Err(Error::Misuse(Misuse::NotWatching)),
        }
    }

    /// All entries, within the limits for a catalog in memory. // R3
    pub(super) async fn collect(mut self) -> Result<Vec<CatalogEntry<'static>>, Error> {
        let options = &self.client.options;
        let mut catalog = Catalog::new(options.max_entries, options.max_catalog_bytes);
        while let Some(entry) = self.next().await? {
            let announced = self.announced.unwrap_or(0);
            if let Err(error) =
                catalog.push(entry, usize::try_from(announced).unwrap_or(usize::MAX))
            {
                self.client.connection = None;
                return Err(error);
            }
        }
        Ok(catalog.into_entries())
    }

    async fn request(&mut self) -> Result<(), Error> {
        let keep_alive = self.client.options.keep_alive;
        let connection = self.client.connection().await?;
        connection.request(Request::List, keep_alive || self.next != Next::Nothing)?;
        match self.next {
            Next::Nothing => {}
            Next::Watch => connection.request(Request::Watch, true)?,
            Next::AllImages => connection.request(Request::ListAndGet, keep_alive)?,
        }
        self.state = State::Active;
        Ok(())
    }

    async fn event(&mut self) -> Result<Option<CatalogEntry<'static>>, Error> {
        let Some(connection) = &mut self.client.connection else {
            return Err(Error::Misuse(Misuse::Closed));
        };
        loop {
            match connection.next().await? {
                Some(Event::Begin { count, .. }) => self.announced = Some(count.into()),
                Some(Event::Entry(entry)) => {
                    self.received += 1;
                    return Ok(Some(entry));
                }
                Some(Event::End { .. }) => {
                    self.state = State::Done;
                    // Not before: whoever takes the images over expects no entries.
                    connection.requested_all = self.next == Next::AllImages;
                    if self.next == Next::Nothing {
                        self.client.response_done().await;
                    }
                    return Ok(None);
                }
                Some(_) => {}
                None => return Err(Error::Protocol(ClientError::EarlyEof)),
            }
        }
    }
}
