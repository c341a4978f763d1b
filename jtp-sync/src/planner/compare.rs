//! Compares the folder with the last LIST, without planning anything.

use std::collections::HashSet;

use jtp_core::ImageId;

use super::unlisted::may_be_listed;
use super::{Planner, State};
use crate::change::Difference;
use crate::files::Index;
use crate::inventory::FileKind;

impl Planner {
    /// Passes each difference between the folder and the last LIST to `found`: first what concerns listed images, in the
    /// server's order, then the images in the folder that the server does not list, by name, but for those that differ
    /// and those that [`unlisted`](Planner::unlisted) passes over. Images that are left out are not compared. Returns the
    /// number of images that are the same: in the folder under their own names.
    ///
    /// Call it after the folder and a LIST are known and before any step is taken. With
    /// [`Fetch::All`](crate::Fetch::All) the files may be unread, and then count as unreadable.
    ///
    /// ```
    /// use jtp_core::{FileType::Png, ImageId};
    /// use jtp_sync::{Difference, FileKind, Inventory, Options, Planner};
    ///
    /// let mut folder = Inventory::new();
    /// folder.add("a.png", FileKind::Image(ImageId(1)));
    /// folder.add("old.png", FileKind::Image(ImageId(3)));
    /// let mut planner = Planner::new(Options::new());
    /// planner.set_folder(folder);
    /// planner.begin_list();
    /// planner.entry(ImageId(1), "a.png", Png, 10);
    /// planner.entry(ImageId(2), "b.png", Png, 10);
    /// let _ = planner.end_list(true);
    ///
    /// let mut names = Vec::new();
    /// let same = planner.compare(&mut |difference| match difference {
    ///     Difference::Missing { name, .. } => names.push(format!("missing {name}")),
    ///     Difference::Extra { name, .. } => names.push(format!("extra {name}")),
    ///     other => panic!("{other:?}"),
    /// });
    /// assert_eq!((same, &names[..]), (1, &["missing b.png".to_owned(), "extra old.png".to_owned()][..]));
    /// ```
    pub fn compare(&self, found: &mut dyn FnMut(&Difference)) -> u64 {
        let mut same = 0;
        let mut differing = HashSet::new();
        for slot in 0..self.images.names.slots() {
            let Some(id) = self.images.names.at(slot) else {
                continue;
            };
            if self.state(slot, id) == State::LeftOut {
                continue;
            }
            let Some(difference) = self.difference(slot, id) else {
                same += 1;
                continue;
            };
            if let Difference::Differs { name, .. } = &difference {
                differing.extend(self.files_like(name.as_str()));
            }
            found(&difference);
        }
        let mut extra: Vec<(&str, ImageId)> = self
            .files
            .iter()
            .filter(|file| !differing.contains(file))
            .filter_map(|file| match self.files.kind(file) {
                FileKind::Image(id) => Some((self.files.name(file), id)),
                _ => None,
            })
            .filter(|(name, id)| self.images.slot(*id).is_none() && may_be_listed(name, *id))
            .collect();
        extra.sort_unstable();
        for (name, id) in extra {
            let name = name.to_owned();
            found(&Difference::Extra { id, name });
        }
        same
    }

    /// How the folder differs from what the LIST says about one image.
    fn difference(&self, slot: usize, id: ImageId) -> Option<Difference> {
        if self.is_at_own_name(slot) {
            return None;
        }
        let name = self.target(slot, id);
        if self.has_name(slot, id, &name) {
            return None;
        }
        if let Some(from) = self.present_name(slot, id) {
            return Some(Difference::Renamed { id, from, to: name });
        }
        let files = self.files_like(name.as_str());
        let is_unread = |file: &Index| self.files.kind(*file) == FileKind::Unread;
        Some(match files.is_empty() {
            true => Difference::Missing { id, name },
            false if files.iter().any(is_unread) => Difference::Unreadable { id, name },
            false => Difference::Differs { id, name },
        })
    }

    /// The smallest name of the files that contain the image.
    fn present_name(&self, slot: usize, id: ImageId) -> Option<String> {
        if self.images.has(slot, super::mark::AT_PLAIN) {
            return self.images.names.safe(id).map(|name| name.to_string());
        }
        let names = self.files.copies(id).map(|file| self.files.name(file));
        names.min().map(str::to_owned)
    }

    /// Passes on the images that the folder contains and that need nothing (`true`), under the names of their files, and
    /// those that are left out (`false`), under the names that they would get.
    pub(crate) fn unchanged(&self, found: &mut dyn FnMut(ImageId, &str, bool)) {
        for slot in 0..self.images.names.slots() {
            let Some(id) = self.images.names.at(slot) else {
                continue;
            };
            match self.state(slot, id) {
                State::LeftOut => found(id, self.target(slot, id).as_str(), false),
                State::Settled => {
                    let name = self.target(slot, id);
                    match self.has_name(slot, id, &name) {
                        true => found(id, name.as_str(), true),
                        false => {
                            let name = self.present_name(slot, id).unwrap_or_default();
                            found(id, &name, true);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}
