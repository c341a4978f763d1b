//! One client at a time brings a folder in step: a second one would fetch what both lack, and judge files that the first
//! one is about to move. // R8

use std::time::Duration;

use jtp_driver::Runtime;

use super::error::Error;
use super::event::SyncEvent;
use super::run::Run;
use super::scan::FolderScan;

/// Minimum and maximum time between two attempts to lock the folder.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

impl<R: Runtime> Run<R> {
    /// Locks the folder and begins to scan it, if it exists and `scan` asks for it.
    pub(super) async fn lock_and_scan(&mut self, scan: bool) -> Result<Option<FolderScan>, Error> {
        if scan && self.path.is_dir() {
            self.open_folder()?;
            self.lock().await?;
        }
        self.start_scan(scan)
    }

    /// Creates and locks a folder that was missing before the LIST. `false` if another client was faster: LIST and scan
    /// are to be repeated.
    pub(super) async fn lock_new_folder(&mut self, is_scanned: bool) -> Result<bool, Error> {
        if is_scanned || self.is_known || !self.locks {
            return Ok(true);
        }
        let is_new = !self.path.is_dir();
        self.open_folder()?;
        let has_waited = self.lock().await?;
        Ok(is_new && !has_waited)
    }

    /// Waits until no other client has locked the folder. Returns whether one had. Cancel safe.
    async fn lock(&mut self) -> Result<bool, Error> {
        if !self.locks || self.lock.is_some() {
            return Ok(false);
        }
        // One that is only looked at may be missing.
        let Ok(folder) = self.session.folder().cloned() else {
            return Ok(false);
        };
        let (mut has_waited, mut pause) = (false, PAUSE.0);
        loop {
            self.lock = folder.try_lock();
            if self.lock.is_some() {
                return Ok(has_waited);
            }
            if !has_waited {
                has_waited = true;
                self.session.emit(&SyncEvent::FolderInUse);
                // The server would close it meanwhile.
                self.main.client.close().await;
            }
            self.main.sleep(pause).await?;
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}
