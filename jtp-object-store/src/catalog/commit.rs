//! Appends changes to the log.

use super::SharedCatalog;
use super::heads::Verdict;
use crate::bucket::Put;
use crate::error::Error;
use crate::format::{Change, Kind, LogRecord, MAX_CHANGES, Object, Stamp};
use crate::state::State;

/// The most bytes of a log object, roughly. Its limit is 4 MiB.
const MAX_LOG_LEN: usize = 2 << 20;

/// A change of the record of a key, and the record that it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) key: Box<str>,
    /// The record when the object was looked at.
    pub(crate) before: Option<Object>,
    pub(crate) after: Option<Object>,
}

impl SharedCatalog {
    /// Appends changes to the log, as far as the records are still those that they replace. `complete` says that all
    /// objects of the bucket were read once. Returns the number of changes that this call made.
    pub(crate) async fn commit(
        &self,
        mut proposals: Vec<Proposal>,
        complete: bool,
    ) -> Result<usize, Error> {
        let mut made = 0;
        // Of each log object's proposals alone: all of a large bucket are not looked up again for each.
        while proposals.len() > MAX_CHANGES {
            let batch = proposals.split_off(proposals.len() - MAX_CHANGES);
            made += self.commit_batch(batch, false).await?;
        }
        Ok(made + self.commit_batch(proposals, complete).await?)
    }

    async fn commit_batch(
        &self,
        mut proposals: Vec<Proposal>,
        complete: bool,
    ) -> Result<usize, Error> {
        let mut made = 0;
        loop {
            let (next, record) = {
                let state = self.state();
                let is_due = |proposal: &Proposal| {
                    proposal.before != proposal.after && state.get(&proposal.key) == proposal.before
                };
                proposals.retain(is_due);
                let is_news = complete && !state.complete;
                if proposals.is_empty() && !is_news {
                    return Ok(made);
                }
                (
                    state.stamp.next(),
                    self.log_record(&state, &proposals, complete),
                )
            };
            self.check_conditions().await?;
            let path = self.log_path(next);
            let bytes = record.encode(next).into();
            match self
                .bucket()
                .create(&path, Kind::Log.max_len(), bytes)
                .await?
            {
                Put::Refused => {
                    if self.pull(false).await? == 0 && self.is_superseded(next).await? {
                        self.rebase().await?;
                    }
                }
                Put::Made(_) => made += self.confirm(next, &record).await?,
            }
        }
    }

    fn log_record(&self, state: &State, proposals: &[Proposal], complete: bool) -> LogRecord {
        let mut changes = Vec::new();
        let mut len = 0;
        for proposal in proposals {
            len += proposal.key.len() + 64;
            if let Some(version) = proposal.after.as_ref().map(|after| &after.identity) {
                len += version.encoded_len();
            }
            if changes.len() == MAX_CHANGES || (len > MAX_LOG_LEN && !changes.is_empty()) {
                break;
            }
            changes.push(Change {
                key: proposal.key.clone(),
                object: proposal.after.clone(),
            });
        }
        let has_all = changes.len() == proposals.len();
        LogRecord {
            writer: self.writer,
            complete: state.complete || (complete && has_all),
            changes,
        }
    }

    /// Applies a log object that was created, if it is one of the current catalog.
    async fn confirm(&self, stamp: Stamp, record: &LogRecord) -> Result<usize, Error> {
        match self.check(stamp).await? {
            Verdict::Trusted { .. } => {
                self.apply(stamp, record);
                Ok(record.changes.len())
            }
            Verdict::Replaced => {
                self.reload().await?;
                if self.stamp().epoch == stamp.epoch && self.stamp().seq < stamp.seq {
                    // The newer catalog is not complete, and this one is.
                    self.rebase().await?;
                }
                Ok(0)
            }
            Verdict::Missing => Err(self.missing()),
        }
    }

    /// Whether a log object, the next one, is of a catalog that was replaced while this process keeps its state: the newer
    /// catalog is not complete, and this one is. No other log object can follow here then.
    async fn is_superseded(&self, next: Stamp) -> Result<bool, Error> {
        Ok(self.stamp().next() == next && self.check(next).await? == Verdict::Replaced)
    }
}
