//! Checks and scans of the folder.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Indexer;
use crate::dir::initial_scan::InitialScan;
use crate::dir::left_out::LeftOut;
use crate::dir::record::Name;
use crate::dir::scan::{self, Files};
use crate::dir::scope::Folders;
use crate::dir::select::Naming;
use crate::dir::tree::Walk;
use crate::hash;

/// The shortest time between two counts of what is left out.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

impl Indexer {
    pub(super) fn summarize_left_out(&mut self) {
        let begun = Instant::now();
        let mut summary = self.scanned.clone();
        self.tracker.count_left_out(&mut summary);
        self.left_out.set_summary(summary);
        self.count_at = None;
        let pause = (begun.elapsed() * 10).max(COUNT_INTERVAL);
        self.count_after = Instant::now() + pause;
    }

    /// Keeps what is known of the files, because they are missing now.
    fn retain_known(&mut self, now: Instant) {
        let non_images = self.left_out.non_images();
        let records = non_images
            .known()
            .chain(self.index.read().known())
            .collect();
        drop(non_images);
        self.known.write().add(records, now);
        self.may_forget = true;
    }

    /// Forgets the retained files that are in the index.
    pub(super) fn forget_listed(&mut self) {
        let index = self.index.read();
        let others = self.left_out.non_images().fingerprints();
        self.known
            .write()
            .remove_listed(|id| index.contains(id), |print| others.contains(print));
        self.may_forget = false;
    }

    /// Checks whether the folder is still the same, and scans it if that is due.
    pub(super) fn check_folder(&mut self, now: Instant) {
        self.known.write().expire(now);
        match self.open_and_scan(now) {
            Ok(()) => {
                if std::mem::take(&mut self.failure_logged) {
                    tracing::info!(
                        folder = %self.folder.path().display(),
                        "the images folder can be scanned again"
                    );
                }
                if self.lost.take().is_some() {
                    tracing::info!(
                        folder = %self.folder.path().display(),
                        "the images folder can be read again"
                    );
                }
            }
            Err(e) if self.keeps_images_after(&e) => {
                self.folder.scan_failed();
                if !std::mem::replace(&mut self.failure_logged, true) {
                    tracing::warn!(
                        folder = %self.folder.path().display(), error = %e,
                        "cannot scan the images folder; it is tried again, and its images stay listed"
                    );
                }
            }
            Err(e) => self.folder_lost(&e, now),
        }
        self.folder.plan_check(now);
    }

    /// Whether an error leaves open whether the images are still there.
    fn keeps_images_after(&self, error: &io::Error) -> bool {
        let is_scanned = self.folder.is_scanned();
        !self.tracker.awaits_initial_scan()
            && (hash::is_shortage(error) || (is_scanned && hash::is_inconclusive(error)))
    }

    fn folder_lost(&mut self, error: &io::Error, now: Instant) {
        let reason = error.to_string();
        match &self.lost {
            None => {
                tracing::error!(
                    folder = %self.folder.path().display(), %error,
                    "cannot read the images folder; its images are not listed until it can be read again"
                );
                self.lost = Some(reason);
            }
            Some(before) if *before != reason && self.reasons.record(now).is_some() => {
                tracing::warn!(
                    folder = %self.folder.path().display(), %error,
                    "the images folder still cannot be read, for another reason"
                );
                self.lost = Some(reason);
            }
            Some(_) => {}
        }
        self.folder.close();
        self.retain_known(now);
        self.tracker.folder_lost(now);
        self.failure_logged = false;
        self.scanned = LeftOut::default();
        self.left_out.set_summary(LeftOut::default());
    }

    fn open_and_scan(&mut self, now: Instant) -> io::Result<()> {
        let opened = self.folder.open(now)?;
        if self.folder.take_replaced() {
            self.retain_known(now);
        }
        let (Some((dir, scope)), Some(file_system)) = (opened, self.folder.file_system()) else {
            return Ok(());
        };
        let naming = self.index.read().naming();
        self.folder.watcher().begin_scan(&scope);
        let mounts = Arc::clone(self.index.mounts());
        let walk = Walk::new(&dir, naming, self.folder.watcher(), &mounts, &scope)?;
        if self.tracker.awaits_initial_scan() {
            let scan = InitialScan {
                dir: &dir,
                file_system,
                selection: &self.selection,
                index: &self.index,
                known: &self.known,
                left_out: &self.left_out,
                stop: &self.stop,
            };
            let found = scan.run(walk, self.scan_threads)?;
            if self.folder.has_events() {
                found
                    .links
                    .iter()
                    .for_each(|name| self.links.add(name, now));
            }
            self.scanned = found.left_out;
            self.skipped.set(&scope, found.skipped, self.index.log());
            self.tracker.set_unreadable(&scope, &found.unreadable);
            mounts.set(&scope, found.mounts, &Folders::default());
            self.tracker.begin_initial(found.to_read, found.recorded);
        } else {
            let index = self.index.read();
            let files = Files {
                index: &index,
                refusals: self.tracker.refusals(),
                unreadable: self.tracker.unreadable(),
                left_out: &self.left_out,
            };
            let place = (&*dir, file_system);
            let mut differences = scan::scan(place, walk, &scope, &self.selection, files)?;
            if naming == Naming::Tree {
                // The files of a folder that was moved are not read again.
                let records = differences
                    .missing
                    .iter()
                    .filter_map(|name| index.file(name));
                let records: Vec<_> = records.filter_map(|record| record.known()).collect();
                self.may_forget |= !records.is_empty();
                self.known.write().add(records, now);
            }
            drop(index);
            let skipped = std::mem::take(&mut differences.skipped);
            self.skipped.set(&scope, skipped, self.index.log());
            let left_out = std::mem::take(&mut differences.left_out);
            if scope.is_whole() {
                self.scanned = left_out;
            }
            self.tracker.set_unreadable(&scope, &differences.unreadable);
            let unreadable = differences.unreadable.iter();
            let unreadable = Folders::new(unreadable.map(|(path, _)| Name::clone(path)));
            mounts.set(&scope, std::mem::take(&mut differences.mounts), &unreadable);
            self.summarize_left_out();
            self.tracker.add_differences(differences, now);
        }
        if !self.tracker.is_initial() {
            self.index_log.save();
        }
        self.folder.scanned(&scope, now);
        Ok(())
    }
}
