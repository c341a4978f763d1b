//! Events of WATCH.

use jtp_core::client::{CatalogEntry, ClientError, Event};

use super::{Client, Error};
use crate::runtime::Runtime;

/// The stream of new images of a server. // N1
///
/// Dropping it leaves the connection in WATCH: the next request connects again. Over a stream of the caller the next
/// request fails with [`Misuse::Watching`](jtp_core::Misuse::Watching); [`cancel`](Watch::cancel) ends the watch so that
/// others can follow (R7).
#[derive(Debug)]
#[must_use]
pub struct Watch<'c, R: Runtime> {
    pub(super) client: &'c mut Client<R>,
}

impl<R: Runtime> Watch<'_, R> {
    /// The next new image. Waits without a limit. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`Error`] when the connection is lost or refused. The next LIST has what was missed. It is final, and later calls
    /// return [`Error::Failed`]. // N5
    pub async fn next(&mut self) -> Result<CatalogEntry<'static>, Error> {
        let Some(connection) = &mut self.client.connection else {
            return Err(Error::Failed);
        };
        loop {
            match connection.next().await {
                Ok(Some(Event::NewImage(entry))) => return Ok(entry),
                Ok(None) => {
                    self.client.connection = None;
                    return Err(Error::Protocol(ClientError::EarlyEof));
                }
                Ok(_) => {}
                Err(error) => {
                    self.client.connection = None;
                    return Err(error);
                }
            }
        }
    }

    /// Ends the watch by CANCEL. Returns the images that were still on their way. // N3 C7
    ///
    /// Not cancel safe: a dropped future loses those images.
    ///
    /// # Errors
    ///
    /// [`Error`] when the connection is lost.
    pub async fn cancel(self) -> Result<Vec<CatalogEntry<'static>>, Error> {
        let mut last = Vec::new();
        if let Some(connection) = &mut self.client.connection {
            connection.cancel()?;
            loop {
                match connection.next().await {
                    Ok(Some(Event::NewImage(entry))) => last.push(entry),
                    Ok(Some(Event::Cancelled { .. }) | None) => break,
                    Ok(_) => {}
                    Err(error) => {
                        self.client.connection = None;
                        return Err(error);
                    }
                }
            }
        }
        self.client.response_done().await;
        Ok(last)
    }
}
