//! Follows the log.

use super::SharedCatalog;
use super::heads::Verdict;
use crate::error::Error;
use crate::format::Stamp;

/// The most log objects that are read before they are applied.
const BATCH: usize = 64;

impl SharedCatalog {
    /// Reads the log objects that follow, and applies them. `check_heads` also finds out whether the catalog was replaced
    /// by another one. Returns the number of log objects.
    pub(crate) async fn pull(&self, check_heads: bool) -> Result<usize, Error> {
        let first = self.stamp().next();
        let records = self.read_batch(first).await?;
        if records.is_empty() && !check_heads {
            return Ok(0);
        }
        match self.check(first).await? {
            Verdict::Trusted { newest } if records.is_empty() && newest >= first.seq => {
                // The log object appeared meanwhile, or it is missing.
                if self.read_log(first).await?.is_none() {
                    self.reload().await?;
                }
                Ok(0)
            }
            Verdict::Trusted { .. } => {
                let mut stamp = first;
                for record in &records {
                    // Another task may have applied it.
                    self.apply(stamp, record);
                    stamp = stamp.next();
                }
                Ok(records.len())
            }
            Verdict::Replaced => {
                self.reload().await?;
                Ok(0)
            }
            Verdict::Missing => Err(self.missing()),
        }
    }

    async fn read_batch(&self, first: Stamp) -> Result<Vec<crate::format::LogRecord>, Error> {
        let mut records = Vec::new();
        let mut stamp = first;
        while records.len() < BATCH {
            match self.read_log(stamp).await {
                Ok(Some(record)) => records.push(record),
                Ok(None) => break,
                // Those before it are applied first.
                Err(error) if error.is_damage() && !records.is_empty() => break,
                Err(error) => return Err(error),
            }
            stamp = stamp.next();
        }
        Ok(records)
    }

    pub(super) fn missing(&self) -> Error {
        Error::CatalogMissing(self.bucket().own("").to_string())
    }
}
