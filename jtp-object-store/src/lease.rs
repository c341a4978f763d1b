//! The lease: which process indexes. It saves requests; correctness does not depend on it.

use std::future::pending;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::UpdateVersion;
use object_store::path::Path;

use crate::bucket::{Bucket, Put};
use crate::error::Error;
use crate::format::{Kind, LeaseState, Stamp};

/// Attempts to give up the lease while a renewal of this process, of which only the request was made, changes it.
const RELEASES: u32 = 3;

/// A job that cannot read or take the lease ends after as many attempts in a row.
const MAX_FAILURES: u32 = 3;

/// The lease of a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    bucket: Bucket,
    holder: u64,
    expiry: Duration,
}

/// A lease that was acquired.
#[derive(Debug)]
pub(crate) struct Held {
    /// The version to replace; `None` if the backend has no conditional updates.
    version: Option<UpdateVersion>,
    renewals: u64,
}

/// The result of an attempt to acquire a lease.
enum Attempt {
    Acquired(Held),
    /// Another process has it, or had it when it was read last.
    Held,
    /// Another process has written it since the attempt before.
    Renewed,
}

impl Lease {
    pub(crate) fn new(bucket: Bucket, holder: u64, expiry: Duration) -> Lease {
        Lease {
            bucket,
            holder,
            expiry,
        }
    }

    fn path(&self) -> Path {
        self.bucket.own("lease")
    }

    /// Waits until this process has the lease.
    pub(crate) async fn acquire(&self) -> Held {
        let mut seen = None;
        let mut is_failing = false;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(Attempt::Acquired(held)) => return held,
                Ok(Attempt::Held | Attempt::Renewed) => is_failing = false,
                Err(error) if is_failing => {
                    tracing::debug!(%error, "cannot read or take the lease");
                }
                Err(error) => {
                    is_failing = true;
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, source, "cannot read or take the lease: this server does not index; it is tried again");
                }
            }
            self.pause().await;
        }
    }

    /// Waits until this process has the lease, or another one has renewed it: then `None`.
    ///
    /// # Errors
    ///
    /// [`Error`] of the last of [`MAX_FAILURES`] attempts in a row.
    pub(crate) async fn acquire_unless_renewed(&self) -> Result<Option<Held>, Error> {
        let mut seen = None;
        let mut failures = 0;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(Attempt::Acquired(held)) => return Ok(Some(held)),
                Ok(Attempt::Renewed) => return Ok(None),
                Ok(Attempt::Held) => failures = 0,
                Err(error) => {
                    failures += 1;
                    if failures >= MAX_FAILURES {
                        return Err(error);
                    }
                }
            }
            self.pause().await;
        }
    }

    async fn pause(&self) {
        self.bucket.clock().sleep(self.expiry / 4).await;
    }

    async fn try_acquire(&self, seen: &mut Option<(Bytes, Instant)>) -> Result<Attempt, Error> {
        let Some(stored) = self.bucket.get(&self.path(), Kind::Lease.max_len()).await? else {
            return self.put(0, None).await;
        };
        let state = LeaseState::decode(&stored.bytes).ok();
        let now = self.bucket.clock().now();
        let (since, is_renewed) = match seen {
            Some((bytes, since)) if *bytes == stored.bytes => (*since, false),
            _ => {
                let before = seen.replace((stored.bytes, now));
                (now, before.is_some())
            }
        };
        let is_free = state.is_some_and(|(_, state)| state.released || state.holder == self.holder);
        if !is_free && now.saturating_duration_since(since) < self.expiry / 2 {
            return Ok(match is_renewed {
                true => Attempt::Renewed,
                false => Attempt::Held,
            });
        }
        let renewals = state.map_or(0, |(_, state)| state.renewals);
        self.put(renewals.wrapping_add(1), Some(stored.version))
            .await
    }

    async fn put(&self, renewals: u64, version: Option<UpdateVersion>) -> Result<Attempt, Error> {
        match self.write(renewals, false, version).await {
            Ok(Put::Made(version)) => Ok(Attempt::Acquired(Held {
                version: Some(version),
                renewals,
            })),
            Ok(Put::Refused) => Ok(Attempt::Held),
            Err(error) if error.is_unsupported() => {
                tracing::debug!(%error, "the backend has no conditional updates: each server indexes");
                Ok(Attempt::Acquired(Held {
                    version: None,
                    renewals,
                }))
            }
            Err(error) => Err(error),
        }
    }

    async fn write(
        &self,
        renewals: u64,
        released: bool,
        version: Option<UpdateVersion>,
    ) -> Result<Put, Error> {
        let state = LeaseState {
            holder: self.holder,
            renewals,
            released,
        };
        let bytes = state.encode(Stamp::default()).into();
        match version {
            None => {
                self.bucket
                    .create(&self.path(), Kind::Lease.max_len(), bytes)
                    .await
            }
            Some(version) => {
                let path = self.path();
                self.bucket
                    .update(&path, Kind::Lease.max_len(), bytes, version)
                    .await
            }
        }
    }

    /// Renews the lease. Returns when it is lost: `true` if another process has it.
    pub(crate) async fn keep(&self, held: &mut Held) -> bool {
        let clock = self.bucket.clock();
        let mut renewed = clock.now();
        // After a failure the same bytes are written again: the backend may have them already.
        let mut has_failed = false;
        while let Some(version) = held.version.clone() {
            clock
                .sleep(self.expiry / if has_failed { 16 } else { 4 })
                .await;
            let begin = clock.now();
            let renewals = held.renewals.wrapping_add(1);
            match self.write(renewals, false, Some(version)).await {
                Ok(Put::Made(version)) => {
                    held.version = Some(version);
                    held.renewals = renewals;
                    renewed = begin;
                    has_failed = false;
                }
                Ok(Put::Refused) => return true,
                // No one can take the lease without an update, either.
                Err(error) if error.is_unsupported() => {
                    tracing::debug!(%error, "the backend has no conditional updates: each server indexes");
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot renew the lease");
                    has_failed = true;
                    if clock.now().saturating_duration_since(renewed) >= self.expiry / 2 {
                        return false;
                    }
                }
            }
        }
        pending().await
    }

    /// Lets others take the lease at once, if this process holds it. It is read first: a request of this process may have
    /// changed it whose answer was not waited for.
    pub(crate) async fn release(&self) -> Result<(), Error> {
        for _ in 0..RELEASES {
            let Some(stored) = self.bucket.get(&self.path(), Kind::Lease.max_len()).await? else {
                return Ok(());
            };
            let state = LeaseState::decode(&stored.bytes).ok();
            let own = state.filter(|(_, state)| state.holder == self.holder && !state.released);
            let Some((_, state)) = own else {
                return Ok(());
            };
            let renewals = state.renewals.wrapping_add(1);
            match self.write(renewals, true, Some(stored.version)).await {
                Ok(Put::Made(_)) => return Ok(()),
                Ok(Put::Refused) => {}
                // Without updates no one else can have taken it.
                Err(error) if error.is_unsupported() => {
                    return self.bucket.delete(&self.path()).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
