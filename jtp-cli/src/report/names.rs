//! Images that do not have their names: a line for each thing that is in the way, not for each image.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use indicatif::HumanCount;
use jtp_core::ImageId;
use jtp_sync::{Blocker, BlockerKind};

use super::images;
use super::lines::LINES_OF_A_KIND;
use crate::escape::escaped;
use crate::terminal::stderr_line;

/// The most paths that are remembered. Other images are only counted. // R3
const MAX_PATHS: usize = 10_000;

/// The images of a job that do not have their names, by what is in the way.
#[derive(Debug, Default)]
pub(super) struct Misnamed {
    /// With the path that is in the way, if that is remembered.
    images: HashMap<ImageId, Option<Arc<str>>>,
    blocked: BTreeMap<Arc<str>, Blocked>,
}

#[derive(Debug)]
struct Blocked {
    blocker: Blocker,
    images: u64,
}

impl Misnamed {
    /// Adds an image. Returns whether its line is a new one.
    pub(super) fn add(&mut self, id: ImageId, blocker: Option<&Blocker>) -> bool {
        let is_full = self.blocked.len() >= MAX_PATHS;
        let is_known = |blocker: &&Blocker| self.blocked.contains_key(&*blocker.path);
        let blocker = blocker.filter(|blocker| !is_full || is_known(blocker));
        let path = blocker.map(|blocker| Arc::from(&*blocker.path));
        if self.images.contains_key(&id) {
            return false;
        }
        self.images.insert(id, path.clone());
        let (Some(path), Some(blocker)) = (path, blocker) else {
            return false;
        };
        let blocked = self.blocked.entry(path).or_insert_with(|| Blocked {
            blocker: blocker.clone(),
            images: 0,
        });
        blocked.images += 1;
        blocked.images == 1
    }

    /// The image has its name now.
    pub(super) fn remove(&mut self, id: ImageId) {
        let Some(Some(path)) = self.images.remove(&id) else {
            return;
        };
        if let Some(blocked) = self.blocked.get_mut(&path) {
            blocked.images -= 1;
            if blocked.images == 0 {
                self.blocked.remove(&path);
            }
        }
    }

    /// A line for each thing in the way.
    fn lines(&self) -> impl Iterator<Item = String> {
        let blocked = self.blocked.values();
        blocked.map(|blocked| line(&blocked.blocker, blocked.images))
    }

    /// Prints what is left, and forgets it.
    pub(super) fn print(&mut self) {
        let most = usize::try_from(LINES_OF_A_KIND).unwrap_or(usize::MAX);
        for line in self.lines().take(most) {
            stderr_line(format_args!("warning: {line}"));
        }
        let printed: u64 = self.blocked.values().take(most).map(|b| b.images).sum();
        let all = u64::try_from(self.images.len()).unwrap_or(u64::MAX);
        let more = all.saturating_sub(printed);
        if more > 0 {
            let verb = if more == 1 { "has" } else { "have" };
            stderr_line(format_args!(
                "warning: {}{} {verb} an ID in the name, because the own name is in use",
                images(more),
                if self.blocked.is_empty() { "" } else { " more" },
            ));
        }
        *self = Misnamed::default();
    }
}

/// What is in the way of an image, or of several ones.
pub(super) fn line(blocker: &Blocker, count: u64) -> String {
    let (path, kind) = (escaped(&blocker.path), blocker.kind);
    let reason = match kind {
        BlockerKind::Link => "is not followed",
        _ => "is not replaced",
    };
    if !blocker.is_folder_of_name {
        return format!(
            "{path}: a {kind} has the name of an image and {reason}; the image has its ID in its name"
        );
    }
    let (images, have, their) = match count {
        1 => ("image".to_owned(), "has", "its ID in its name"),
        _ => (
            format!("{} images", HumanCount(count)),
            "have",
            "their IDs in their names",
        ),
    };
    format!(
        "{path}: a {kind} is in place of this folder and {reason}; the {images} for it {have} {their}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocker(path: &str, kind: BlockerKind, is_folder_of_name: bool) -> Blocker {
        Blocker::new(path, kind, is_folder_of_name)
    }

    #[test]
    fn images_behind_one_link_have_one_line_until_they_have_their_names() {
        let mut misnamed = Misnamed::default();
        let link = blocker("2024", BlockerKind::Link, true);
        let added = (0..1000).filter(|n| misnamed.add(ImageId(*n), Some(&link)));
        assert_eq!(added.count(), 1);
        let folder = blocker("a.png", BlockerKind::Folder, false);
        assert!(misnamed.add(ImageId(1000), Some(&folder)));
        assert!(!misnamed.add(ImageId(1000), Some(&folder)));
        let lines: Vec<_> = misnamed.lines().collect();
        let expected = [
            "2024: a link is in place of this folder and is not followed; the 1,000 images for it have their IDs in their names",
            "a.png: a folder has the name of an image and is not replaced; the image has its ID in its name",
        ];
        assert_eq!(lines, expected);
        misnamed.remove(ImageId(1000));
        (1..1000).for_each(|n| misnamed.remove(ImageId(n)));
        let lines: Vec<_> = misnamed.lines().collect();
        let expected = "2024: a link is in place of this folder and is not followed; the image for it has its ID in its name";
        assert_eq!(lines, [expected]);
        misnamed.remove(ImageId(0));
        assert_eq!(misnamed.lines().count(), 0);
    }

    #[test]
    fn r3_only_so_many_paths_are_remembered() {
        let mut misnamed = Misnamed::default();
        for n in 0..MAX_PATHS + 5 {
            let file = blocker(&format!("{n}.png"), BlockerKind::File, false);
            misnamed.add(ImageId(u64::try_from(n).unwrap()), Some(&file));
        }
        assert_eq!(
            (misnamed.lines().count(), misnamed.images.len()),
            (MAX_PATHS, MAX_PATHS + 5)
        );
    }
}
