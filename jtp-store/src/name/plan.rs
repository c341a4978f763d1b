//! Which image gets which name.

use std::collections::{BTreeSet, HashMap};

use jtp_core::{FileType, ImageId, nfc};

use super::FileName;

/// Gives each image of a catalog a file name of its own, whatever the order in which they were told. // R5
///
/// Names are made harmless ([`FileName::new`]); those that meet then, or when case does not count, all get
/// their image's ID as a suffix. An image that was never told is `<id>.<ext>`.
///
/// A catalog is told with [`NamePlan::add`], all of it before the first name is asked for, since one
/// more image can change the names of others. What WATCH tells later comes with [`NamePlan::announce`],
/// which knows that a file of the same name was replaced. Build a new plan from each LIST: only a LIST
/// says what is gone.
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
    /// Images by folded name.
    meeting: HashMap<String, BTreeSet<ImageId>>,
}

#[derive(Debug, Clone)]
struct Named {
    /// As the catalog has it, in NFC.
    told: Box<str>,
    safe: FileName,
}

impl NamePlan {
    /// A plan without images.
    #[must_use]
    pub fn new() -> NamePlan {
        NamePlan::default()
    }

    /// Takes an entry of a catalog. One of the same ID is replaced.
    pub fn add(&mut self, id: ImageId, name: &str, file_type: FileType) {
        self.remove(id);
        let safe = FileName::new(name, id, file_type);
        self.meeting.entry(safe.folded()).or_default().insert(id);
        self.images.insert(
            id,
            Named {
                told: nfc(name).into(),
                safe,
            },
        );
    }

    /// Takes a new image that WATCH told. Images that had exactly this name in the catalog are taken to be
    /// replaced by it and leave the plan; they are returned. Those whose names meet it otherwise stay. // N1
    ///
    /// If a replaced one is still wanted under that name (two files whose names are one in NFC), the next
    /// LIST has both, and its plan gives both a suffix.
    pub fn announce(&mut self, id: ImageId, name: &str, file_type: FileType) -> Vec<ImageId> {
        let name = nfc(name);
        let meeting = self
            .meeting
            .get(&FileName::new(&name, id, file_type).folded());
        let same = |other: &&ImageId| {
            **other != id
                && self
                    .images
                    .get(other)
                    .is_some_and(|named| *named.told == *name)
        };
        let replaced: Vec<ImageId> = meeting
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

    /// Forgets an image; whether it was there.
    pub fn remove(&mut self, id: ImageId) -> bool {
        let Some(named) = self.images.remove(&id) else {
            return false;
        };
        let folded = named.safe.folded();
        if let Some(meeting) = self.meeting.get_mut(&folded) {
            meeting.remove(&id);
            if meeting.is_empty() {
                self.meeting.remove(&folded);
            }
        }
        true
    }

    /// The file name of an image; `file_type` is asked for if it is not in the plan.
    #[must_use]
    pub fn name(&self, id: ImageId, file_type: FileType) -> FileName {
        let Some(named) = self.images.get(&id) else {
            let name = FileName::of_id(id, file_type);
            let is_taken = self.meeting.contains_key(&name.folded());
            return if is_taken { name.with_id(id) } else { name };
        };
        if self.meets(id, &named.safe) {
            named.safe.with_id(id)
        } else {
            named.safe.clone()
        }
    }

    /// Whether the image cannot have that name alone.
    fn meets(&self, id: ImageId, safe: &FileName) -> bool {
        if self
            .meeting
            .get(&safe.folded())
            .is_some_and(|images| images.len() > 1)
        {
            return true;
        }
        // The plain name may be what another image's name is with its suffix. Whether that one needs it is
        // not asked: the answer could depend on this one.
        let suffixed = |other: ImageId| Some(self.images.get(&other)?.safe.with_id(other));
        safe.suffix_id()
            .filter(|other| *other != id)
            .and_then(suffixed)
            .is_some_and(|other| other.folded() == safe.folded())
    }

    /// How many images were told.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether none was told.
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
    fn r5_names_that_meet_all_get_their_id() {
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
    fn r5_a_name_that_looks_like_anothers_suffixed_one_gets_out_of_the_way() {
        let names = plan(&[(1, "a.png"), (2, "a.png"), (3, "A-0000000000000001.png")]);
        assert_eq!(names[0], "a-0000000000000001.png");
        assert_eq!(names[2], "A-0000000000000001-0000000000000003.png");
        let alone = plan(&[(3, "a-0000000000000001.png"), (1, "x.png")]);
        assert_eq!(alone[0], "a-0000000000000001.png");
    }

    #[test]
    fn r5_an_image_that_no_list_named_has_its_id_for_a_name() {
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
    fn n1_a_changed_picture_takes_over_the_name_and_a_namesake_does_not() {
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
        fn r5_no_two_images_share_a_name_and_the_order_does_not_matter(
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
