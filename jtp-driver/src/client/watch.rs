//! News as it comes.

use jtp_core::client::{CatalogEntry, ClientError, Misuse};

use super::link::Told;
use super::{Client, Error};
use crate::runtime::Runtime;

/// News of new images. // N1
#[derive(Debug)]
#[must_use]
pub struct Watch<'c, R: Runtime> {
    pub(super) client: &'c mut Client<R>,
}

impl<R: Runtime> Watch<'_, R> {
    /// The next new image. Waits for as long as it takes; dropped before it is ready, it loses nothing.
    ///
    /// # Errors
    ///
    /// [`Error`], when the connection is lost or refused. What came in between is then in the next LIST. // N5
    pub async fn next(&mut self) -> Result<CatalogEntry<'static>, Error> {
        let Some(link) = &mut self.client.link else {
            return Err(Error::Misuse(Misuse::Closed));
        };
        loop {
            match link.next().await {
                Ok(Told::NewImage(entry)) => return Ok(entry),
                Ok(Told::Closed) => {
                    self.client.link = None;
                    return Err(Error::Protocol(ClientError::EarlyEof));
                }
                Ok(_) => {}
                Err(error) => {
                    self.client.link = None;
                    return Err(error);
                }
            }
        }
    }

    /// Ends the watch by CANCEL; the news that was still on its way. // N3 C7
    ///
    /// # Errors
    ///
    /// [`Error`], when the connection is lost.
    pub async fn cancel(self) -> Result<Vec<CatalogEntry<'static>>, Error> {
        let mut last = Vec::new();
        if let Some(link) = &mut self.client.link {
            link.cancel()?;
            loop {
                match link.next().await {
                    Ok(Told::NewImage(entry)) => last.push(entry),
                    Ok(Told::Cancelled | Told::Closed) => break,
                    Ok(_) => {}
                    Err(error) => {
                        self.client.link = None;
                        return Err(error);
                    }
                }
            }
        }
        self.client.response_done().await;
        Ok(last)
    }
}
