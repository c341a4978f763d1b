//! What the server is doing: for `/healthz`, `/metrics` and the service manager.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use jtp_store::IndexProgress;

use crate::service_manager;

/// How often the progress of the first scan is reported.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The time that a service manager gives to the first scan after each progress. A file of 4 GiB takes 90 s on a disk
/// that reads 50 MB/s.
const SCAN_TIME: Duration = Duration::from_secs(300);

/// A phase of the server's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first scan of the folder is under way.
    Starting,
    /// Connections are accepted.
    Serving,
    /// No connections are accepted; requests in progress are finished.
    Draining,
}

/// The server's phase, and the progress of its first scan.
#[derive(Debug, Default)]
pub(super) struct Status {
    phase: AtomicU8,
    progress: Mutex<IndexProgress>,
}

impl Status {
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub(super) fn progress(&self) -> IndexProgress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_progress(&self, progress: IndexProgress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Reports the progress of the first scan to the service manager until it is dropped. A scan that makes no progress
    /// is not given more time.
    pub(super) async fn report_scan(&self) -> ! {
        service_manager::starting("reading the images", SCAN_TIME);
        let mut reported = self.progress();
        loop {
            tokio::time::sleep(PROGRESS_INTERVAL).await;
            let progress = self.progress();
            if progress != reported {
                reported = progress;
                service_manager::starting(&progress_line(progress), SCAN_TIME);
            }
        }
    }
}

/// The progress of the first scan, as a line for the user.
pub(super) fn progress_line(progress: IndexProgress) -> String {
    format!(
        "reading the images: {} of {} files, {}",
        HumanCount(progress.files_done),
        HumanCount(progress.files_total),
        HumanBytes(progress.bytes)
    )
}
