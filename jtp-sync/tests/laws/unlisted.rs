//! What a mirror deletes. // R8

use std::collections::{BTreeMap, BTreeSet};

use jtp_core::FileType::Png;
use jtp_core::ImageId;
use jtp_sync::{Difference, FileKind, Inventory, Options, Planner, Unlisted};
use proptest::prelude::*;

use crate::script::{go_on, play, steps};

fn unlisted(planner: &Planner) -> Vec<(String, u64, Option<String>)> {
    let tuple = |file: Unlisted| (file.name, file.id.0, file.copy);
    planner.unlisted().into_iter().map(tuple).collect()
}

#[test]
fn r8_images_that_the_server_does_not_list_and_further_copies_are_unlisted() {
    let mut planner = play(
        "folder a.png=1 copy.png=1 gone.png=2 old.png=3
         list a.png=1 new-name.png=3 new.png=4",
    );
    assert_eq!(planner.present(), 4);
    steps(&mut planner);
    assert_eq!(
        unlisted(&planner),
        [
            ("copy.png".to_owned(), 1, Some("a.png".to_owned())),
            ("gone.png".to_owned(), 2, None)
        ]
    );
    assert_eq!(planner.present(), 5);
}

#[test]
fn r8_what_is_no_image_was_not_read_or_is_left_out_is_never_unlisted() {
    let planner = play(
        "folder notes.txt=other disk.img=unrecognised-7 unread.png=unread folder=folder link.png=reserved \
             left-out.png=1 copy.png=1
         list !left-out.png=1
         > nothing",
    );
    assert!(planner.unlisted().is_empty());
}

#[test]
fn r8_temporary_files_backups_and_empty_files_are_never_unlisted_or_extra() {
    let empty = ImageId::of(b"").0;
    let mut planner = play(&format!(
        "folder a.png=1 a.png_original=1 b.png~=2 c.bak=3 sub/d.png.part=4 e.png.crdownload=5 ~$f.png=6 \
             gone.png=8 listed.png~=9 empty.png={empty}
         list a.png=1 listed.png=9"
    ));
    let mut extra = Vec::new();
    planner.compare(&mut |difference| {
        if let Difference::Extra { name, .. } = difference {
            extra.push(name.clone());
        }
    });
    assert_eq!(extra, ["gone.png"]);
    // A listed image gets its name, whatever name its file has.
    go_on(&mut planner, "> rename 9 listed.png~ listed.png");
    assert_eq!(unlisted(&planner), [("gone.png".to_owned(), 8, None)]);
}

proptest! {
    /// Names and IDs from a few, so that they meet.
    #[test]
    fn r8_deleting_everything_unlisted_loses_no_listed_image(
        files in prop::collection::btree_map("[a-c]{1,2}(/[a-b])?", 0u64..6, 0..12),
        listed in prop::collection::btree_map(0u64..6, "[a-c]{1,2}(⧸[a-b])?", 0..6),
        case_sensitive: bool,
    ) {
        let mut inventory = Inventory::new();
        inventory.set_case_sensitive(case_sensitive);
        let files: BTreeMap<String, u64> =
            files.into_iter().map(|(name, id)| (format!("{name}.png"), id)).collect();
        for (name, id) in &files {
            inventory.add(name, FileKind::Image(ImageId(*id)));
        }
        let mut planner = Planner::new(Options::new());
        planner.set_folder(inventory);
        planner.begin_list();
        for (id, name) in &listed {
            planner.entry(ImageId(*id), &format!("{name}.png"), Png, 1);
        }
        let _ = planner.end_list(true);
        steps(&mut planner);
        prop_assert!(planner.is_finished() && planner.is_complete());
        let present = planner.present();
        let unlisted = planner.unlisted();
        let names: BTreeSet<&String> = unlisted.iter().map(|file| &file.name).collect();
        prop_assert_eq!(names.len(), unlisted.len());
        for file in &unlisted {
            prop_assert_eq!(file.copy.is_some(), listed.contains_key(&file.id.0));
            // The copy that stays is not deleted.
            prop_assert!(file.copy.as_ref().is_none_or(|copy| !names.contains(copy)));
        }
        for file in &unlisted {
            planner.file_deleted(&file.name);
        }
        prop_assert!(steps(&mut planner).is_empty());
        prop_assert!(planner.is_finished() && planner.unlisted().is_empty());
        let left = u64::try_from(listed.len()).unwrap();
        prop_assert_eq!(planner.present(), left);
        prop_assert_eq!(present - left, planner.totals().deleted);
    }
}
