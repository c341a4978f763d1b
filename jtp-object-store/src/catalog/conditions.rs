//! Whether the backend has conditional puts, on which all writing depends.

use std::sync::atomic::Ordering;

use super::SharedCatalog;
use crate::error::Error;

impl SharedCatalog {
    /// This process says that no other one writes, so it does not need conditional puts.
    pub(crate) fn set_sole_writer(&self) {
        self.is_sole_writer.store(true, Ordering::Relaxed);
    }

    /// Finds out once whether the backend refuses a put over an object. One that ignores `If-None-Match` accepts the same
    /// bytes again.
    ///
    /// # Errors
    ///
    /// [`Error::Unconditional`] if it ignores the condition, unless this process is the only writer.
    pub(super) async fn check_conditions(&self) -> Result<(), Error> {
        let is_conditional = match self.is_conditional.get() {
            Some(known) => *known,
            None => {
                let path = self.bucket().own("probe");
                let found = self.bucket().refuses_second(&path).await?;
                if !found {
                    tracing::warn!(
                        "the object store ignores the condition of a put: only one job at a time must change the catalog, and servers do not"
                    );
                }
                *self.is_conditional.get_or_init(|| found)
            }
        };
        match is_conditional || self.is_sole_writer.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(Error::Unconditional),
        }
    }
}
