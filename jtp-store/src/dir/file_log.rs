//! Log lines about single files, of which a folder may have millions: the first of each kind name the file, later ones are
//! only counted for a while.

use std::ffi::OsStr;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jtp_core::CatalogError;
#[cfg(feature = "zstd")]
use jtp_core::ImageId;
use jtp_driver::LogThrottle;

use super::select::Naming;

/// How many files of one kind are named at once.
const BURST: u32 = 20;

/// The log lines of a store about its files.
#[derive(Debug)]
pub(super) struct FileLog {
    state: Mutex<State>,
    naming: Naming,
}

#[derive(Debug)]
struct State {
    left_out: LogThrottle,
    renamed: LogThrottle,
    open: LogThrottle,
    unreadable: LogThrottle,
    #[cfg(feature = "zstd")]
    damaged: LogThrottle,
    /// When the counts were logged.
    counted: Option<Instant>,
}

impl FileLog {
    pub(super) fn new(naming: Naming) -> FileLog {
        let throttle = || LogThrottle::new(BURST, LogThrottle::INTERVAL);
        let state = Mutex::new(State {
            left_out: throttle(),
            renamed: throttle(),
            open: throttle(),
            unreadable: throttle(),
            #[cfg(feature = "zstd")]
            damaged: throttle(),
            counted: None,
        });
        FileLog { state, naming }
    }

    /// A file is left out of the catalog.
    pub(super) fn left_out(&self, name: &OsStr, reason: &str) {
        if let Some(count) = self.state().left_out.record(Instant::now()) {
            tracing::warn!(file = ?name, reason, count, "a file is left out of the catalog");
        }
    }

    /// A sub-folder cannot be read. // W9
    pub(super) fn folder_unreadable(&self, path: &OsStr, error: &io::Error, is_initial: bool) {
        let Some(count) = self.state().unreadable.record(Instant::now()) else {
            return;
        };
        match is_initial {
            true => tracing::warn!(
                folder = ?path, %error, count,
                "cannot read a sub-folder; its images are not listed until it can be read, and mirrors may delete them"
            ),
            false => tracing::warn!(
                folder = ?path, %error, count,
                "cannot read a sub-folder; images that were listed stay listed, and it is tried again"
            ),
        }
    }

    /// A sub-folder that could not be read can be read, or was removed. // W9
    pub(super) fn folder_readable(&self, path: &OsStr) {
        if let Some(count) = self.state().unreadable.record(Instant::now()) {
            tracing::info!(folder = ?path, count, "a sub-folder can be read again, or was removed");
        }
    }

    /// A listed file of a folder cannot be read, the first one.
    pub(super) fn files_unreadable(&self, folder: &OsStr, file: &OsStr, reason: &str) {
        if let Some(count) = self.state().unreadable.record(Instant::now()) {
            tracing::warn!(
                folder = ?or_dot(folder), ?file, reason, count,
                "cannot read images of a folder; they stay listed and are tried again"
            );
        }
    }

    /// All listed files of a folder can be read again.
    pub(super) fn files_readable(&self, folder: &OsStr) {
        if let Some(count) = self.state().unreadable.record(Instant::now()) {
            tracing::info!(
                folder = ?or_dot(folder), count,
                "all images of a folder can be read again"
            );
        }
    }

    /// A sub-folder is left out. // W9
    pub(super) fn folder_left_out(&self, path: &OsStr, error: &io::Error) {
        if let Some(count) = self.state().left_out.record(Instant::now()) {
            tracing::warn!(folder = ?path, %error, count, "a sub-folder is left out of the catalog");
        }
    }

    /// The catalog has no room for an image, or not under its name.
    pub(super) fn not_published(&self, name: &str, error: &CatalogError) {
        if let Some(count) = self.state().left_out.record(Instant::now()) {
            tracing::warn!(name, %error, count, "an image is left out of the catalog");
        }
    }

    /// A file is listed. Logs its listed name if its own is not UTF-8. // W6
    pub(super) fn listed(&self, name: &OsStr) {
        if name.to_str().is_some() {
            return;
        }
        if let Some(count) = self.state().renamed.record(Instant::now()) {
            let listed = self.naming.listed(name);
            tracing::warn!(
                file = ?name, listed, count,
                "a file name is not UTF-8; it is listed under another name"
            );
        }
    }

    /// A file has been open for writing for long.
    pub(super) fn open_for_writing(&self, name: &OsStr) {
        if let Some(count) = self.state().open.record(Instant::now()) {
            tracing::info!(
                file = ?name, count,
                "a file is not read while a program has it open for writing"
            );
        }
    }

    /// A variant in the cache is not as it was made. Clients can cause this again and again if its disk is bad.
    #[cfg(feature = "zstd")]
    pub(super) fn variant_damaged(&self, id: ImageId) {
        if let Some(count) = self.state().damaged.record(Instant::now()) {
            tracing::warn!(%id, count, "a compressed variant is damaged or missing; it is made again");
        }
    }

    /// Logs, at an interval, how many events no line has counted.
    pub(super) fn report_unlogged(&self, now: Instant) {
        let state = &mut *self.state();
        let recent = |at: Instant| now.saturating_duration_since(at) < LogThrottle::INTERVAL;
        if state.counted.is_some_and(recent) {
            return;
        }
        state.counted = Some(now);
        let left_out = state.left_out.take_unlogged();
        let renamed = state.renamed.take_unlogged();
        let open = state.open.take_unlogged();
        let unreadable = state.unreadable.take_unlogged();
        if left_out > 0 {
            tracing::warn!(count = left_out, "more files are left out of the catalog");
        }
        if unreadable > 0 {
            tracing::warn!(
                count = unreadable,
                "more folders cannot be read, or can be read again"
            );
        }
        if renamed > 0 {
            tracing::warn!(count = renamed, "more file names are not UTF-8");
        }
        if open > 0 {
            tracing::info!(
                count = open,
                "more files are not read while programs have them open for writing"
            );
        }
        #[cfg(feature = "zstd")]
        {
            let damaged = state.damaged.take_unlogged();
            if damaged > 0 {
                tracing::warn!(
                    count = damaged,
                    "more compressed variants are damaged or missing"
                );
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The images folder itself has an empty path.
fn or_dot(folder: &OsStr) -> &OsStr {
    match folder.is_empty() {
        true => OsStr::new("."),
        false => folder,
    }
}
