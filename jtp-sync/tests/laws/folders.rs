//! Names with folders in them. // W9

use jtp_core::FileType::Png;
use jtp_core::ImageId;
use jtp_sync::{FileKind, Inventory, Names, Options, Planner};

use crate::cases::{list, planner, steps};

fn planner_of(
    options: Options,
    files: &[(&str, FileKind)],
    case_sensitive: bool,
    listed: &[(&str, u64)],
) -> Planner {
    let mut inventory = Inventory::new();
    for (name, kind) in files {
        inventory.add(name, *kind);
    }
    inventory.set_case_sensitive(case_sensitive);
    let mut planner = Planner::new(options);
    planner.set_folder(inventory);
    list(&mut planner, listed);
    planner
}

fn image(id: u64) -> FileKind {
    FileKind::Image(ImageId(id))
}

fn id(id: u64) -> ImageId {
    ImageId(id)
}

#[test]
fn w9_images_are_placed_in_their_folders_and_renamed_into_them() {
    let listed = [("2024⧸a.png", 1), ("2024⧸Rome⧸b.png", 2)];
    let files = [("a.png", 1)];
    let mut tree = planner(Options::new(), &files, &listed);
    assert_eq!(
        steps(&mut tree),
        [
            "rename 1 a.png 2024/a.png",
            "fetch 2",
            "place 2 2024/Rome/b.png"
        ]
    );
    let flat = Options::new().with_folders(false);
    let mut flat = planner(flat, &files, &listed);
    assert_eq!(
        steps(&mut flat),
        [
            "rename 1 a.png 2024⧸a.png",
            "fetch 2",
            "place 2 2024⧸Rome⧸b.png"
        ]
    );
    // Under whatever name, in whatever folder.
    let any = Options::new().with_names(Names::Any);
    let files = [("best/x.png", 1), ("2024⧸Rome⧸b.png", 2)];
    assert!(steps(&mut planner(any, &files, &listed)).is_empty());
}

#[test]
fn w9_two_names_share_a_folder_where_case_is_ignored() {
    let listed = [("A⧸x.png", 1), ("a⧸y.png", 2)];
    let files = [
        ("A", FileKind::Folder),
        ("A/x.png", image(1)),
        ("A/y.png", image(2)),
    ];
    let mut shared = planner_of(Options::new(), &files, false, &listed);
    assert!(steps(&mut shared).is_empty());
    let mut apart = planner_of(Options::new(), &files, true, &listed);
    assert_eq!(steps(&mut apart), ["rename 2 A/y.png a/y.png"]);
    // Files in another case are renamed as ever.
    let files = [("A/X.png", image(1)), ("A/y.png", image(2))];
    let mut renamed = planner_of(Options::new(), &files, false, &listed);
    assert_eq!(steps(&mut renamed), ["rename 1 A/X.png A/x.png"]);
}

#[test]
fn w9_a_file_gives_its_name_to_a_folder_that_a_list_or_an_event_names() {
    let mut after_list = planner(Options::new(), &[("a.png", 1)], &[("a.png", 1)]);
    assert!(steps(&mut after_list).is_empty());
    list(&mut after_list, &[("a.png", 1), ("A.png⧸b⧸c.png", 2)]);
    let expected = [
        format!("rename 1 a.png a-{}.png", id(1)),
        "fetch 2".to_owned(),
        "place 2 A.png/b/c.png".to_owned(),
    ];
    assert_eq!(steps(&mut after_list), expected);
    let mut after_event = planner(Options::new(), &[("a.png", 1)], &[("a.png", 1)]);
    assert!(steps(&mut after_event).is_empty());
    after_event.announce(id(2), "A.png⧸b⧸c.png", Png, 10);
    assert_eq!(steps(&mut after_event), expected);
}

#[test]
fn r8_an_image_in_place_of_a_folder_is_kept_aside() {
    // The server has it under another name, does not have it any more, or an incomplete LIST does not say.
    let files = [("d.png", 1)];
    let mut moved = planner(Options::new(), &files, &[("d.png⧸a.png", 2), ("e.png", 1)]);
    let expected = ["rename 1 d.png e.png", "fetch 2", "place 2 d.png/a.png"];
    assert_eq!(steps(&mut moved), expected);
    let aside = [
        "fetch 2".to_owned(),
        format!("aside 1 d.png d-{}.png", id(1)),
        "place 2 d.png/a.png".to_owned(),
    ];
    let mut gone = planner(Options::new(), &files, &[("d.png⧸a.png", 2)]);
    assert_eq!(steps(&mut gone), aside);
    let mut unknown = Planner::new(Options::new());
    let mut inventory = Inventory::new();
    inventory.add("d.png", image(1));
    unknown.set_folder(inventory);
    unknown.begin_list();
    unknown.entry(id(2), "d.png⧸a.png", Png, 10);
    let _ = unknown.end_list(false);
    assert_eq!(steps(&mut unknown), aside);
    // It is the image itself.
    let mut own = planner(Options::new(), &files, &[("d.png⧸a.png", 1)]);
    let expected = [
        format!("aside 1 d.png d-{}.png", id(1)),
        format!("rename 1 d-{}.png d.png/a.png", id(1)),
    ];
    assert_eq!(steps(&mut own), expected);
}

#[test]
fn r8_an_image_that_another_one_needs_the_name_of_is_kept_aside_in_its_folder() {
    let files = [("d/a.png", 1), ("d/b.png", 2)];
    let swapped = [("d⧸b.png", 1), ("d⧸a.png", 2)];
    let mut planner = planner(Options::new(), &files, &swapped);
    let first = steps(&mut planner);
    assert!(
        first[0].starts_with("aside ") && first[0].contains(" d/"),
        "{first:?}"
    );
    assert_eq!(first[0].matches("d/").count(), 2, "{first:?}");
    assert_eq!(first.len(), 3);
}

#[test]
fn w9_where_a_folder_cannot_be_the_image_has_its_id_in_the_folder_itself() {
    for kind in [FileKind::Other, FileKind::Reserved, FileKind::Unread] {
        let files = [("d", kind), ("e", kind)];
        let listed = [("d⧸e⧸a.png", 1), ("b.png", 2)];
        let mut first = planner_of(Options::new(), &files, true, &listed);
        let flat = format!("d⧸e⧸a-{}.png", id(1));
        let mut taken = steps(&mut first);
        taken.sort();
        let place = format!("place 1 {flat}");
        let notice = "refuse 1 NameTaken";
        assert_eq!(
            taken,
            ["fetch 1", "fetch 2", &place, "place 2 b.png", notice]
        );
        // The second run does nothing. R8 (b)
        let files = [("d", kind), (&flat, image(1)), ("b.png", image(2))];
        for names in [Names::Listed, Names::Any] {
            let options = Options::new().with_names(names);
            let mut second = planner_of(options, &files, true, &listed);
            let notices = steps(&mut second);
            assert_eq!(notices, ["refuse 1 NameTaken"], "{names:?}");
        }
        // Once the folder can be there, the image moves into it.
        let files = [
            ("d", FileKind::Folder),
            (&flat, image(1)),
            ("b.png", image(2)),
        ];
        for names in [Names::Listed, Names::Any] {
            let options = Options::new().with_names(names);
            let mut third = planner_of(options, &files, true, &listed);
            assert_eq!(steps(&mut third), [format!("rename 1 {flat} d/e/a.png")]);
        }
    }
}

#[test]
fn w9_a_folder_in_place_of_a_file_stays_and_a_number_is_not_that_of_a_folder() {
    let suffixed = format!("a-{}.png", id(1));
    let files = [("a.png", FileKind::Folder), (&suffixed, FileKind::Folder)];
    let in_numbered = format!("a-{}-1.png⧸x.png", id(1));
    let listed = [("a.png", 1), (&*in_numbered, 2)];
    let mut planner = planner_of(Options::new(), &files, true, &listed);
    let taken = steps(&mut planner);
    let expected = format!("place 1 a-{}-2.png", id(1));
    assert!(taken.contains(&expected), "{taken:?}");
}

#[test]
fn r3_folders_of_a_catalog_are_counted() {
    let mut planner = planner(Options::new(), &[], &[("a⧸b⧸1.png", 1), ("a⧸c⧸2.png", 2)]);
    assert_eq!(planner.folders(), 3);
    list(&mut planner, &[("a⧸c⧸2.png", 2)]);
    assert_eq!(planner.folders(), 2);
    let flat = Options::new().with_folders(false);
    assert_eq!(
        crate::cases::planner(flat, &[], &[("a⧸1.png", 1)]).folders(),
        0
    );
}
