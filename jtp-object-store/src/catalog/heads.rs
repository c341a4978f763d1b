//! The heads in the store, and what they say about the log.

use std::sync::PoisonError;

use futures_util::TryStreamExt;

use super::SharedCatalog;
use crate::bucket::damaged;
use crate::error::Error;
use crate::format::{Head, Kind, Stamp};

/// A head as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedHead {
    pub(super) seq: u64,
    e_tag: Option<String>,
}

/// The last head that was read, and its epoch.
#[derive(Debug, Default)]
pub(super) struct HeadCache(Option<(ListedHead, u64)>);

/// What the heads say about log objects that were read or created before the heads were listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The log objects are those of the current catalog. The newest head has this sequence number.
    Trusted { newest: u64 },
    /// They were deleted, and those that were read are of a writer that did not know, or there is another epoch.
    Replaced,
    /// There is no head.
    Missing,
}

impl SharedCatalog {
    /// The heads, the newest one last.
    pub(super) async fn list_heads(&self) -> Result<Vec<ListedHead>, Error> {
        let mut heads = Vec::new();
        let mut listing = self.bucket().list_own("head");
        while let Some(meta) = listing.try_next().await? {
            let name = meta.location.filename().unwrap_or_default();
            if let Some(seq) = parse_seq(name) {
                let e_tag = meta.e_tag;
                heads.push(ListedHead { seq, e_tag });
            }
        }
        heads.sort_by_key(|head| head.seq);
        Ok(heads)
    }

    /// The newest head that can be read. `None` if all of them have gone meanwhile.
    pub(super) async fn read_head(&self, seq: u64) -> Result<Option<(Stamp, Head)>, Error> {
        let path = self.head_path(seq);
        let Some(stored) = self.bucket().get(&path, Kind::Head.max_len()).await? else {
            return Ok(None);
        };
        let (stamp, head) = Head::decode(&stored.bytes).map_err(damaged(&path))?;
        if stamp.seq != seq {
            return Err(damaged(&path)(crate::format::FormatError::Sequence));
        }
        Ok(Some((stamp, head)))
    }

    async fn epoch_of(&self, head: &ListedHead) -> Result<Option<u64>, Error> {
        let cached = {
            let cache = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
            let known = cache.0.as_ref();
            known
                .filter(|(known, _)| known == head)
                .map(|(_, epoch)| *epoch)
        };
        if cached.is_some() {
            return Ok(cached);
        }
        let Some((stamp, _)) = self.read_head(head.seq).await? else {
            return Ok(None);
        };
        let mut cache = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        cache.0 = Some((head.clone(), stamp.epoch));
        Ok(Some(stamp.epoch))
    }

    /// Lists the heads, to find out whether log objects from `first` on can be trusted.
    pub(super) async fn check(&self, first: Stamp) -> Result<Verdict, Error> {
        let heads = self.list_heads().await?;
        let Some(newest) = heads.last() else {
            return Ok(Verdict::Missing);
        };
        let second = heads.iter().rev().nth(1).map_or(0, |head| head.seq);
        if first.seq <= second {
            return Ok(Verdict::Replaced);
        }
        for head in heads.iter().rev() {
            match self.epoch_of(head).await {
                Ok(Some(epoch)) if epoch == first.epoch => {
                    let newest = newest.seq;
                    return Ok(Verdict::Trusted { newest });
                }
                Ok(_) => return Ok(Verdict::Replaced),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Verdict::Replaced)
    }
}

/// A sequence number or an epoch in a name.
pub(super) fn parse_seq(name: &str) -> Option<u64> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (name.len() == 16 && name.bytes().all(is_hex))
        .then(|| u64::from_str_radix(name, 16).ok())
        .flatten()
}
