//! Assigns a file name to each image.

use std::collections::{BTreeSet, HashMap};

use jtp_core::{FileType, ImageId, nfc};

use super::FileName;

/// Assigns each image of a catalog a unique file name that does not depend on the order of the images. // R5
///
/// Names are made safe ([`FileName::new`]). Names that are equal then, or differ only in case, all get their image's
/// ID as a suffix. An image that is not in the plan is named `<id>.<ext>`.
///
/// Add the whole catalog with [`NamePlan::add`] before the first call of [`NamePlan::name`], since one more image
/// can change the names of others. Add later images of WATCH with [`NamePlan::announce`], which knows that a new image
/// replaces one of the same name. Build a new plan from each LIST: only a LIST shows which images were removed.
///
/// ```
/// use jtp_core::{FileType::Png, ImageId};
/// use jtp_store::NamePlan;
///
/// let mut plan = NamePlan::new();
/// plan.add(ImageId(1), "a.png", Png);
/// plan.add(ImageId(2), "A.png", Png);
/// plan.add(ImageId(3), "b.png", Png);
/// assert_eq!(plan.name(ImageId(1), Png).as_str(), "a-0000000000000001.png");
/// assert_eq!(plan.name(ImageId(2), Png).as_str(), "A-0000000000000002.png");
/// assert_eq!(plan.name(ImageId(3), Png).as_str(), "b.png");
/// assert_eq!(plan.name(ImageId(4), Png).as_str(), "0000000000000004.png");
/// ```
#[derive(Debug, Clone, Default)]
pub struct NamePlan {
    images: HashMap<ImageId, Named>,
    by_folded_name: HashMap<String, BTreeSet<ImageId>>,
}

#[derive(Debug, Clone)]
struct Named {
    /// The name in the catalog, in NFC.
    listed: Box<str>,
    safe: FileName,
}

impl NamePlan {
    /// A plan without images.
    #[must_use]
    pub fn new() -> NamePlan {
        NamePlan::default()
    }

    /// Adds an entry of a catalog. An entry with the same ID is replaced.
    pub fn add(&mut self, id: ImageId, name: &str, file_type: FileType) {
        self.remove(id);
        let safe = FileName::new(name, id, file_type);
        self.by_folded_name
            .entry(safe.folded())
            .or_default()
            .insert(id);
        self.images.insert(
            id,
            Named {
                listed: nfc(name).into(),
                safe,
            },
        );
    }

    /// Adds a new image that WATCH announced. Images with exactly this name in the catalog count as replaced: they are
    /// removed from the plan and returned. Images whose names are merely similar stay. // N1
    ///
    /// If the server still lists a replaced image under that name (two files whose names are equal in NFC), the next
    /// LIST has both, and a plan of it gives both a suffix.
    pub fn announce(&mut self, id: ImageId, name: &str, file_type: FileType) -> Vec<ImageId> {
        let name = nfc(name);
        let similar = self
            .by_folded_name
            .get(&FileName::new(&name, id, file_type).folded());
        let same = |other: &&ImageId| {
            **other != id
                && self
                    .images
                    .get(other)
                    .is_some_and(|named| *named.listed == *name)
        };
        let replaced: Vec<ImageId> = similar
            .into_iter()
            .flatten()
            .filter(same)
            .copied()
            .collect();
        for &old in &replaced {
            self.remove(old);
        }
        self.add(id, &name, file_type);
        replaced
    }

    /// Removes an image. `false` if it is not in the plan.
    pub fn remove(&mut self, id: ImageId) -> bool {
        let Some(named) = self.images.remove(&id) else {
            return false;
        };
        let folded = named.safe.folded();
        if let Some(images) = self.by_folded_name.get_mut(&folded) {
            images.remove(&id);
            if images.is_empty() {
                self.by_folded_name.remove(&folded);
            }
        }
        true
    }

    /// The file name of an image. `file_type` gives the extension of an image that is not in the plan.
    #[must_use]
    pub fn name(&self, id: ImageId, file_type: FileType) -> FileName {
        let Some(named) = self.images.get(&id) else {
            let name = FileName::of_id(id, file_type);
            let is_taken = self.by_folded_name.contains_key(&name.folded());
            return if is_taken { name.with_id(id) } else { name };
        };
        if self.conflicts(id, &named.safe) {
            named.safe.with_id(id)
        } else {
            named.safe.clone()
        }
    }

    /// Whether another image needs the same name.
    fn conflicts(&self, id: ImageId, safe: &FileName) -> bool {
        if self
            .by_folded_name
            .get(&safe.folded())
            .is_some_and(|images| images.len() > 1)
        {
            return true;
        }
        // The name may equal another image's name with its suffix. It does not matter here whether that image needs
        // the suffix, since that could in turn depend on this one.
        let suffixed = |other: ImageId| Some(self.images.get(&other)?.safe.with_id(other));
        safe.suffix_id()
            .filter(|other| *other != id)
            .and_then(suffixed)
            .is_some_and(|other| other.folded() == safe.folded())
    }

    /// The number of images in the plan.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether the plan has no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn plan(entries: &[(u64, &str)]) -> Vec<String> {
        let mut plan = NamePlan::new();
        for (id, name) in entries {
            plan.add(ImageId(*id), name, FileType::Png);
        }
        let name = |(id, _): &(u64, &str)| plan.name(ImageId(*id), FileType::Png).to_string();
        entries.iter().map(name).collect()
    }

    #[test]
    fn r5_images_with_equal_names_all_get_their_id_as_suffix() {
        assert_eq!(
            plan(&[(1, "a/b.png"), (2, "a:b.png"), (3, "A?B.PNG"), (4, "c.png")]),
            [
                "a_b-0000000000000001.png",
                "a_b-0000000000000002.png",
                "A_B-0000000000000003.PNG",
                "c.png"
            ]
        );
    }

    #[test]
    fn r5_a_name_equal_to_the_suffixed_name_of_another_image_gets_a_suffix() {
        let names = plan(&[(1, "a.png"), (2, "a.png"), (3, "A-0000000000000001.png")]);
        assert_eq!(names[0], "a-0000000000000001.png");
        assert_eq!(names[2], "A-0000000000000001-0000000000000003.png");
        let alone = plan(&[(3, "a-0000000000000001.png"), (1, "x.png")]);
        assert_eq!(alone[0], "a-0000000000000001.png");
    }

    #[test]
    fn r5_an_image_that_is_not_in_the_plan_is_named_by_its_id() {
        let mut plan = NamePlan::new();
        assert_eq!(
            plan.name(ImageId(1), FileType::Other).as_str(),
            "0000000000000001.img"
        );
        plan.add(ImageId(2), "0000000000000001.IMG", FileType::Other);
        let name = plan.name(ImageId(1), FileType::Other);
        assert_eq!(name.as_str(), "0000000000000001-0000000000000001.img");
    }

    #[test]
    fn n1_an_announced_image_replaces_one_of_the_same_name_but_not_of_another_case() {
        let mut plan = NamePlan::new();
        plan.add(ImageId(1), "a.png", FileType::Png);
        plan.add(ImageId(2), "b.png", FileType::Png);
        assert_eq!(
            plan.announce(ImageId(3), "a.png", FileType::Png),
            [ImageId(1)]
        );
        assert_eq!(plan.name(ImageId(3), FileType::Png).as_str(), "a.png");
        assert!(plan.announce(ImageId(4), "B.png", FileType::Png).is_empty());
        assert_eq!(
            plan.name(ImageId(4), FileType::Png).as_str(),
            "B-0000000000000004.png"
        );
        assert!(plan.announce(ImageId(4), "B.png", FileType::Png).is_empty());
        assert_eq!(plan.len(), 3);
    }

    proptest! {
        #[test]
        fn r5_names_are_unique_and_independent_of_the_order(
            entries in prop::collection::btree_map(
                0..8u64, "[aA./]{0,3}(-000000000000000[0-7]){0,2}(.png)?|0{15}[0-7].png", 0..8),
            turn in 0..8usize,
        ) {
            let build = |entries: &[(u64, String)]| {
                let mut plan = NamePlan::new();
                for (id, name) in entries {
                    plan.add(ImageId(*id), name, FileType::Png);
                }
                plan
            };
            let mut entries: Vec<_> = entries.into_iter().collect();
            let first = build(&entries);
            let turn = turn.min(entries.len());
            entries.rotate_left(turn);
            let second = build(&entries);
            let mut seen = HashSet::new();
            for (id, _) in &entries {
                let name = first.name(ImageId(*id), FileType::Png);
                prop_assert_eq!(&name, &second.name(ImageId(*id), FileType::Png));
                prop_assert!(seen.insert(name.folded()), "{} twice in {:?}", name, entries);
            }
        }
    }
}
