//! Writes snapshots, and deletes what they replace.

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;

use super::SharedCatalog;
use super::heads::parse_seq;
use crate::bucket::Put;
use crate::error::Error;
use crate::format::{Head, Kind, PartRef, PartWriter, Stamp};
use crate::state::State;

/// The bytes of a part, roughly. The limit is 16 MiB.
const PART_LEN: usize = 8 << 20;
/// Requests at once.
const AT_ONCE: usize = 8;

impl SharedCatalog {
    /// Log objects since the last snapshot.
    pub(crate) fn log_len(&self) -> u64 {
        self.state().since_head
    }

    /// Writes a snapshot of the current state, and deletes what is older than the one before.
    pub(crate) async fn compact(&self) -> Result<(), Error> {
        let (stamp, parts, head) = {
            let state = self.state();
            let (parts, head) = self.encode(&state, state.stamp);
            (state.stamp, parts, head)
        };
        // If there is one of this state, it is as good.
        self.write_snapshot(stamp, parts, head).await?;
        self.note_snapshot(stamp);
        self.delete_old().await
    }

    /// Begins a new epoch with the state of this process: if there is no catalog, or if it cannot be read any more.
    pub(crate) async fn rebase(&self) -> Result<(), Error> {
        self.check_conditions().await?;
        let heads = self.list_heads().await?;
        let newest = heads.last().map_or(0, |head| head.seq);
        let (before, stamp, parts, head) = {
            let state = self.state();
            let stamp = Stamp {
                epoch: self.new_epoch(),
                seq: newest.max(state.stamp.seq).saturating_add(1),
            };
            let (parts, head) = self.encode(&state, stamp);
            (state.stamp, stamp, parts, head)
        };
        tracing::info!(seq = stamp.seq, "begin a new catalog in the store");
        if let Put::Made(_) = self.write_snapshot(stamp, parts, head).await? {
            if self.adopt(before, stamp) {
                return Ok(());
            }
        }
        self.reload().await.map(drop)
    }

    fn note_snapshot(&self, stamp: Stamp) {
        let mut state = self.state_mut();
        if state.stamp.epoch == stamp.epoch {
            state.since_head = state.stamp.seq.saturating_sub(stamp.seq);
        }
    }

    /// Continues in a new epoch, if the state is still the one of which the snapshot was made.
    fn adopt(&self, before: Stamp, stamp: Stamp) -> bool {
        let mut state = self.state_mut();
        let is_same = state.stamp == before;
        if is_same {
            state.stamp = stamp;
            state.since_head = 0;
        }
        is_same
    }

    fn encode(&self, state: &State, stamp: Stamp) -> (Vec<Bytes>, Head) {
        let mut parts = Vec::new();
        let mut refs = Vec::new();
        let mut finish = |writer: PartWriter| {
            let bytes = writer.finish();
            let checksum = bytes
                .last_chunk()
                .map_or(0, |last| u64::from_le_bytes(*last));
            refs.push(PartRef {
                writer: self.writer,
                number: u64::try_from(parts.len()).unwrap_or(u64::MAX),
                length: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                checksum,
            });
            parts.push(Bytes::from(bytes));
        };
        let mut writer = PartWriter::new(stamp);
        for (key, object) in state.iter() {
            writer.push(&key, &object);
            if writer.len() >= PART_LEN {
                finish(std::mem::replace(&mut writer, PartWriter::new(stamp)));
            }
        }
        if writer.len() > 0 {
            finish(writer);
        }
        let head = Head {
            complete: state.complete,
            objects: u64::try_from(state.len()).unwrap_or(u64::MAX),
            parts: refs,
        };
        (parts, head)
    }

    async fn write_snapshot(
        &self,
        stamp: Stamp,
        parts: Vec<Bytes>,
        head: Head,
    ) -> Result<Put, Error> {
        let writes: Vec<_> = head
            .parts
            .iter()
            .zip(parts)
            .map(|(part, bytes)| (self.part_path(stamp.seq, part.writer, part.number), bytes))
            .collect();
        stream::iter(writes)
            .map(|(path, bytes)| async move { self.bucket().write(&path, bytes).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        let bytes = head.encode(stamp).into();
        let path = self.head_path(stamp.seq);
        self.bucket()
            .create(&path, Kind::Head.max_len(), bytes)
            .await
    }

    /// Deletes what is older than the second newest head.
    async fn delete_old(&self) -> Result<(), Error> {
        let heads = self.list_heads().await?;
        let Some(second) = heads.iter().rev().nth(1).map(|head| head.seq) else {
            return Ok(());
        };
        // Heads first: without its head, no one reads a part or the log after it.
        self.delete_below("head", second).await?;
        self.delete_below("part", second).await?;
        self.delete_below("log", second.saturating_add(1)).await
    }

    async fn delete_below(&self, folder: &str, seq: u64) -> Result<(), Error> {
        let listed: Vec<_> = self.bucket().list_own(folder).try_collect().await?;
        let old = listed
            .into_iter()
            .map(|meta| meta.location)
            .filter(|path| seq_of(folder, path).is_some_and(|found| found < seq));
        stream::iter(old)
            .map(|path| async move { self.bucket().delete(&path).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }
}

/// The sequence number in the path of an object of the catalog.
fn seq_of(folder: &str, path: &Path) -> Option<u64> {
    let mut parts = path.as_ref().rsplit('/');
    let last = parts.next()?;
    parse_seq(if folder == "part" {
        parts.next()?
    } else {
        last
    })
}
