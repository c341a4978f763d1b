//! Loads the newest snapshot and the log after it.

use futures_util::stream::{self, StreamExt};
use object_store::path::Path;

use super::heads::Verdict;
use super::{SharedCatalog, apply_to};
use crate::bucket::damaged;
use crate::error::Error;
use crate::format::{
    Block, BlockWriter, FormatError, Head, Kind, LogRecord, PartRef, Stamp, decode_part,
};
use crate::state::State;

/// Parts of a snapshot, or log objects, that are read at once.
const AT_ONCE: usize = 8;
/// Attempts to load a snapshot while others are replaced.
const ATTEMPTS: usize = 4;

impl SharedCatalog {
    /// Loads the newest snapshot that is not damaged, and the log after it. Returns whether there is one.
    pub(crate) async fn reload(&self) -> Result<bool, Error> {
        let mut damage = None;
        for _ in 0..ATTEMPTS {
            let heads = self.list_heads().await?;
            if heads.is_empty() {
                return Ok(false);
            }
            let mut has_gone = false;
            for head in heads.iter().rev() {
                match self.load(head.seq).await {
                    Ok(Some(mut state)) => {
                        let first = state.stamp.next();
                        self.follow_to_end(&mut state).await?;
                        if let Verdict::Trusted { .. } = self.check(first).await? {
                            self.replace(state);
                            return Ok(true);
                        }
                        has_gone = true;
                    }
                    Ok(None) => has_gone = true,
                    Err(error) if error.is_damage() => {
                        tracing::warn!(%error, "a snapshot of the catalog is damaged");
                        damage = Some(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                break;
            }
            if !has_gone {
                break;
            }
        }
        Err(damage.unwrap_or_else(|| Error::CatalogMissing(self.head_path(0).to_string())))
    }

    /// The snapshot of a head; `None` if an object of it has gone.
    async fn load(&self, seq: u64) -> Result<Option<State>, Error> {
        let Some((stamp, head)) = self.read_head(seq).await? else {
            return Ok(None);
        };
        if head.objects > Block::MAX_LEN {
            let path = self.head_path(seq);
            return Err(damaged(&path)(FormatError::Field("number of objects")));
        }
        let mut writer = BlockWriter::default();
        let parts = head.parts.clone();
        let mut reads = stream::iter(parts)
            .map(|part| self.read_part(stamp, part))
            .buffered(AT_ONCE);
        let mut last_key = None;
        while let Some(read) = reads.next().await {
            let Some((path, bytes)) = read? else {
                return Ok(None);
            };
            let take = |key: &str, object| writer.push(key, &object);
            let part = decode_part(&bytes, Some(&mut last_key), take).map_err(damaged(&path))?;
            if part != stamp {
                return Err(damaged(&path)(FormatError::Sequence));
            }
        }
        let state = State::new(stamp, head.complete, writer.finish());
        if !is_length(state.len(), &head) {
            let path = self.head_path(seq);
            return Err(damaged(&path)(FormatError::Field("number of objects")));
        }
        Ok(Some(state))
    }

    async fn read_part(
        &self,
        stamp: Stamp,
        part: PartRef,
    ) -> Result<Option<(Path, bytes::Bytes)>, Error> {
        let path = self.part_path(stamp.seq, part.writer, part.number);
        let Some(stored) = self.bucket().get(&path, Kind::Part.max_len()).await? else {
            return Ok(None);
        };
        let checksum = stored
            .bytes
            .last_chunk()
            .map(|last| u64::from_le_bytes(*last));
        let length = u64::try_from(stored.bytes.len()).unwrap_or(u64::MAX);
        if checksum != Some(part.checksum) || length != part.length {
            return Err(damaged(&path)(FormatError::Checksum));
        }
        Ok(Some((path, stored.bytes)))
    }

    /// Applies the log after a state, to its end.
    async fn follow_to_end(&self, state: &mut State) -> Result<(), Error> {
        loop {
            let first = state.stamp.seq + 1;
            let epoch = state.stamp.epoch;
            let count = u64::try_from(AT_ONCE).unwrap_or(1);
            let mut reads = stream::iter(first..first.saturating_add(count))
                .map(|seq| self.read_log(Stamp { epoch, seq }))
                .buffered(AT_ONCE);
            while let Some(read) = reads.next().await {
                let record = match read {
                    Ok(Some(record)) => record,
                    // What is damaged is reported when the log is followed.
                    Ok(None) => return Ok(()),
                    Err(error) if error.is_damage() => return Ok(()),
                    Err(error) => return Err(error),
                };
                let stamp = state.stamp.next();
                apply_to(state, stamp, &record);
            }
        }
    }

    /// Reads a log object; `None` if there is none.
    pub(super) async fn read_log(&self, stamp: Stamp) -> Result<Option<LogRecord>, Error> {
        let path = self.log_path(stamp);
        let Some(stored) = self.bucket().get(&path, Kind::Log.max_len()).await? else {
            return Ok(None);
        };
        let (found, record) = LogRecord::decode(&stored.bytes).map_err(damaged(&path))?;
        if found != stamp {
            return Err(damaged(&path)(FormatError::Sequence));
        }
        Ok(Some(record))
    }
}

fn is_length(len: usize, head: &Head) -> bool {
    u64::try_from(len) == Ok(head.objects)
}
