//! Several servers with the same catalog: which one is used, and which one comes next.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Error;
use super::connect::Target;
use crate::runtime::Runtime;

/// The failure of one of several servers.
#[derive(Debug, Clone)]
pub struct ReplicaError {
    address: Arc<str>,
    error: Arc<Error>,
}

impl ReplicaError {
    /// The server, as the caller named it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What failed.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }
}

/// `ADDRESS: ` and the error with its causes.
impl fmt::Display for ReplicaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.error)?;
        let mut source = std::error::Error::source(&*self.error);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Writes the failures, separated by semicolons.
pub(super) fn write_errors(errors: &[ReplicaError], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, error) in errors.iter().enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        write!(f, "{separator}{error}")?;
    }
    Ok(())
}

/// The servers of a client, and what its builder's clones share: the position among them.
pub(super) struct Replicas<R: Runtime> {
    targets: Arc<[Target<R>]>,
    shared: Arc<Shared>,
    /// The one that was used last.
    used: usize,
}

/// What the clones of a builder and their clients share.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Round>);

#[derive(Debug, Default)]
struct Round {
    /// The one to connect to.
    current: usize,
    /// The failures since the last progress, at most one of each server.
    errors: Vec<ReplicaError>,
}

impl Shared {
    fn round(&self) -> MutexGuard<'_, Round> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Runtime> Replicas<R> {
    pub(super) fn new(targets: Vec<Target<R>>, shared: Arc<Shared>) -> Replicas<R> {
        let mut replicas = Replicas {
            targets: targets.into(),
            shared,
            used: 0,
        };
        replicas.used = replicas.current();
        replicas
    }

    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    fn current(&self) -> usize {
        self.shared.round().current
    }

    /// Whether another client has gone on to another server.
    pub(super) fn is_left(&self) -> bool {
        self.used != self.current()
    }

    /// The server that was used last.
    pub(super) fn used(&self) -> Option<&Target<R>> {
        self.targets.get(self.used)
    }

    /// The server to connect to.
    pub(super) fn next(&mut self) -> Option<&Target<R>> {
        self.used = self.current();
        self.used()
    }

    /// The address of the server to connect to.
    pub(super) fn address(&self) -> Option<&str> {
        Some(&self.targets.get(self.current())?.address)
    }

    /// The failures since the last progress.
    pub(super) fn errors(&self) -> Vec<ReplicaError> {
        self.shared.round().errors.clone()
    }

    pub(super) fn progress(&self) {
        if self.len() > 1 {
            self.shared.round().errors.clear();
        }
    }

    /// Goes on to the next server. The error if all have failed, or another one would not help. // R6
    pub(super) fn fail_over(&self, error: Error) -> Result<ReplicaError, Error> {
        let Some(target) = self.used().filter(|_| self.len() > 1) else {
            return Err(error);
        };
        if !error.concerns_server() {
            return Err(error);
        }
        let failure = ReplicaError {
            address: target.address.as_str().into(),
            error: Arc::new(error),
        };
        let round = &mut *self.shared.round();
        if round.current != self.used {
            // Another client has gone on.
            return Ok(failure);
        }
        round.errors.push(failure.clone());
        round.current = (round.current + 1) % self.len();
        match round.errors.len() < self.len() {
            true => Ok(failure),
            false => Err(Error::Replicas(std::mem::take(&mut round.errors))),
        }
    }
}

impl<R: Runtime> fmt::Debug for Replicas<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicas")
            .field("targets", &self.targets)
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}
