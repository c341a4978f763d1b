//! Names in the folder of files that can change under another name: symbolic links, and files with several hard links.
//! No event of the folder says that such a file was written, so their metadata is read every second.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use cap_std::fs::Dir;

use super::non_images::SharedLeftOut;
use super::record::Name;
use super::shared::SharedIndex;
use crate::file_system::FileSystem;
use crate::fingerprint::{Fingerprint, Stat};
use crate::hash;

/// How often the metadata is read. A change is then reflected within 2 s.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reading the metadata takes at most this part of the time: with very many links, it is done less often.
const SHARE: u32 = 10;

/// The most names; the changes of more links are found by the scan of each minute.
const MAX_LINKS: usize = 100_000;

/// What was last found under a name; `None` if it leads nowhere.
type Found = Option<Fingerprint>;

/// The linked files of the folder.
#[derive(Default)]
pub(super) struct Links {
    /// Also what was found that differs from the index, so that it is reported once.
    names: HashMap<Name, Option<Found>>,
    due: Option<Instant>,
}

impl Links {
    pub(super) fn add(&mut self, name: &Name, now: Instant) {
        if self.names.len() >= MAX_LINKS && !self.names.contains_key(name) {
            return;
        }
        self.names.entry(Name::clone(name)).or_default();
        self.due.get_or_insert(now + INTERVAL);
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Reads the metadata if that is due, and if the folder is open. Returns the names of the files that changed.
    pub(super) fn check(
        &mut self,
        folder: Option<(&Dir, FileSystem)>,
        index: &SharedIndex,
        left_out: &SharedLeftOut,
        now: Instant,
    ) -> Vec<Name> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let Some((dir, file_system)) = folder else {
            self.due = Some(now + INTERVAL);
            return Vec::new();
        };
        let mut changed = Vec::new();
        self.names.retain(|name, reported| {
            let found = match look(dir, file_system, name) {
                Ok(found) => found,
                // It cannot be looked at now.
                Err(error) if hash::is_inconclusive(&error) => return true,
                Err(_) => return false, // Events say what happened to it.
            };
            let known = index.read().file(name).map(|record| record.fingerprint);
            let known = known.or_else(|| left_out.non_images().fingerprint(name));
            if found == known {
                *reported = None;
            } else if *reported != Some(found) {
                *reported = Some(found);
                changed.push(Name::clone(name));
            }
            true
        });
        let wait = INTERVAL.max(now.elapsed() * SHARE);
        self.due = Some(Instant::now() + wait).filter(|_| !self.names.is_empty());
        changed
    }
}

/// What a name leads to.
fn look(dir: &Dir, file_system: FileSystem, name: &Name) -> io::Result<Found> {
    let print = |metadata| file_system.fingerprint(&Stat::of_cap(&metadata), name);
    let metadata = hash::symlink_metadata(dir, name)?;
    if metadata.is_symlink() {
        let target = hash::metadata(dir, name).ok();
        return Ok(target.map(print));
    }
    // The last of several names still has to be compared once.
    Ok(Some(print(metadata)))
}
