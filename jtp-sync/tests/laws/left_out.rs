//! Images that the caller leaves out, and the comparison of folder and server.

use crate::cases::{planner, steps};
use jtp_core::FileType::Png;
use jtp_core::ImageId;
use jtp_sync::{
    Count, Difference, Fetch, FileKind, Inventory, Names, Options, Outcome, Planner, Received, Step,
};

/// A LIST of names, IDs, and whether they are selected.
fn list(planner: &mut Planner, entries: &[(&str, u64, bool)]) {
    planner.begin_list();
    for &(name, id, selected) in entries {
        match selected {
            true => planner.entry(ImageId(id), name, Png, 100),
            false => planner.leave_out(ImageId(id), name, Png, 100),
        }
    }
    let report = planner.end_list(true);
    assert_eq!(report.entries, entries.len() as u64);
}

fn new(options: Options, files: &[(&str, u64)], entries: &[(&str, u64, bool)]) -> Planner {
    let mut planner = planner(options, files, &[]);
    list(&mut planner, entries);
    planner
}

#[test]
fn r8_left_out_images_stay_as_they_are_and_are_counted() {
    let files = [("x.png", 1), ("b.png", 2)];
    let entries = [
        ("a.png", 1, false),
        ("b.png", 2, false),
        ("c.png", 3, false),
        ("d.png", 4, true),
    ];
    let mut planner = new(Options::new(), &files, &entries);
    assert_eq!(planner.wanted().images, 1);
    assert_eq!(steps(&mut planner), ["fetch 4", "place 4 d.png"]);
    assert!(planner.is_finished());
    let totals = planner.totals();
    assert_eq!((totals.left_out.images, totals.left_out.bytes), (3, 300));
    assert_eq!((totals.planned.images, totals.kept.images), (1, 0));
    assert_eq!(planner.fetched(ImageId(3)), Received::Discard);
    // Those that the server no longer has are not counted any more.
    list(&mut planner, &[("b.png", 2, false), ("d.png", 4, true)]);
    assert_eq!(planner.totals().left_out.images, 1);
    // What the server no longer lists may be replaced, as ever.
    list(&mut planner, &[("b.png", 5, true), ("d.png", 4, true)]);
    assert_eq!(
        steps(&mut planner),
        [
            "fetch 5",
            "replace 5 b.png Image(ImageId(0000000000000002))"
        ]
    );
    assert_eq!(planner.totals().left_out, Count::default());
}

#[test]
fn r8_a_file_of_a_left_out_image_blocks_its_name_for_others() {
    let entries = [("a.png", 1, true), ("b.png", 2, false)];
    let own = "a-0000000000000001.png";
    let all = Options::new().with_fetch(Fetch::All);
    let again = format!("replace 1 {own} Image(ImageId(0000000000000001))");
    for files in [
        &[("a.png", 2), (own, 1)][..],
        &[("a.png", 2), ("z.png", 2), (own, 1)],
    ] {
        for names in [Names::Listed, Names::Any] {
            let options = Options::new().with_names(names);
            let mut planner = new(options, files, &entries);
            assert_eq!(steps(&mut planner), ["refuse 1 NameTaken"], "{files:?}");
        }
        let mut planner = new(all.clone(), files, &entries);
        assert_eq!(
            steps(&mut planner),
            ["fetch 1", &again, "refuse 1 NameTaken"]
        );
    }
}

#[test]
fn r8_an_image_that_is_selected_later_is_fetched() {
    let mut planner = new(Options::new(), &[], &[("a.png", 1, false)]);
    assert_eq!(
        (steps(&mut planner).len(), planner.is_finished()),
        (0, true)
    );
    // The server has given it another name.
    list(&mut planner, &[("b.png", 1, true)]);
    assert_eq!(steps(&mut planner), ["fetch 1", "place 1 b.png"]);
    // Events, too.
    planner.leave_out(ImageId(2), "c.png", Png, 10);
    assert!(steps(&mut planner).is_empty());
    planner.announce(ImageId(2), "d.png", Png, 10);
    assert_eq!(steps(&mut planner), ["fetch 2", "place 2 d.png"]);
    assert_eq!(planner.totals().left_out, Count::default());
    assert_eq!(planner.totals().planned.images, 2);
}

#[test]
fn r8_an_image_that_is_left_out_later_is_dropped_at_each_stage() {
    let out = [("a.png", 1, false)];
    let fresh = || new(Options::new(), &[], &[("a.png", 1, true)]);
    // Wanted.
    let mut planner = fresh();
    list(&mut planner, &out);
    assert!(steps(&mut planner).is_empty() && planner.is_finished());
    assert_eq!(planner.totals().planned, Count::default());
    // Requested.
    let mut planner = fresh();
    assert!(planner.next_fetch().is_some());
    list(&mut planner, &out);
    assert_eq!(planner.requested(), Count::default());
    assert_eq!(planner.fetched(ImageId(1)), Received::Discard);
    assert!(steps(&mut planner).is_empty() && planner.is_finished());
    // In hand.
    let mut planner = fresh();
    assert!(planner.next_fetch().is_some());
    assert_eq!(planner.fetched(ImageId(1)), Received::Keep);
    list(&mut planner, &out);
    assert_eq!(steps(&mut planner), ["discard 1"]);
    assert!(planner.is_finished());
    // Being placed.
    for outcome in [Outcome::Done, Outcome::Stale, Outcome::Failed] {
        let mut planner = fresh();
        assert!(planner.next_fetch().is_some());
        assert_eq!(planner.fetched(ImageId(1)), Received::Keep);
        assert!(matches!(planner.next_move(), Some(Step::Place { .. })));
        list(&mut planner, &out);
        assert!(!planner.is_current(ImageId(1)));
        planner.report(ImageId(1), outcome);
        let expected: &[&str] = match outcome {
            Outcome::Done => &[],
            _ => &["discard 1"],
        };
        assert_eq!(steps(&mut planner), expected, "{outcome:?}");
        assert!(planner.is_finished(), "{outcome:?}");
        assert_eq!(planner.totals().left_out.images, 1);
    }
    // Being renamed.
    for outcome in [Outcome::Done, Outcome::Stale, Outcome::Failed] {
        let mut planner = new(Options::new(), &[("x.png", 1)], &[("a.png", 1, true)]);
        assert!(matches!(planner.next_move(), Some(Step::Rename { .. })));
        list(&mut planner, &out);
        assert!(!planner.is_current(ImageId(1)));
        planner.report(ImageId(1), outcome);
        assert!(steps(&mut planner).is_empty() && planner.is_finished());
    }
}

#[test]
fn r5_names_are_the_same_whatever_is_left_out() {
    for second in [true, false] {
        let entries = [("a.png", 1, true), ("A.png", 2, second)];
        let mut planner = new(Options::new(), &[], &entries);
        let done = steps(&mut planner);
        let place = "place 1 a-0000000000000001.png".to_owned();
        assert!(done.contains(&place), "{done:?}");
    }
}

#[test]
fn differences_between_folder_and_server_are_found() {
    let mut folder = Inventory::new();
    for (name, kind) in [
        ("same.png", FileKind::Image(ImageId(1))),
        ("copy.png", FileKind::Image(ImageId(1))),
        ("old name.png", FileKind::Image(ImageId(2))),
        ("differs.png", FileKind::Image(ImageId(90))),
        ("unread.png", FileKind::Unread),
        ("folder.png", FileKind::Reserved),
        ("left out.png", FileKind::Image(ImageId(92))),
        ("notes.txt", FileKind::Other),
        ("b extra.png", FileKind::Image(ImageId(91))),
        ("left.png", FileKind::Image(ImageId(8))),
        // The name of one image, the content of another.
        ("x.png", FileKind::Image(ImageId(10))),
    ] {
        folder.add(name, kind);
    }
    let mut planner = Planner::new(Options::new());
    planner.set_folder(folder);
    let entries = [
        ("same.png", 1, true),
        ("new name.png", 2, true),
        ("missing.png", 3, true),
        ("differs.png", 4, true),
        ("unread.png", 5, true),
        ("folder.png", 6, true),
        ("left out.png", 7, false),
        ("moved.png", 8, false),
        ("x.png", 9, true),
        ("y.png", 10, true),
    ];
    list(&mut planner, &entries);
    let mut found = Vec::new();
    let same = planner.compare(&mut |difference| {
        found.push(match difference {
            Difference::Missing { id, name } => format!("missing {} {name}", id.0),
            Difference::Differs { id, name } => format!("differs {} {name}", id.0),
            Difference::Unreadable { id, name } => format!("unreadable {} {name}", id.0),
            Difference::Renamed { id, from, to } => format!("renamed {} {from} > {to}", id.0),
            Difference::Extra { id, name } => format!("extra {} {name}", id.0),
            other => panic!("{other:?}"),
        });
    });
    let expected = [
        "renamed 2 old name.png > new name.png",
        "missing 3 missing.png",
        "differs 4 differs.png",
        "unreadable 5 unread.png",
        "differs 6 folder.png",
        "differs 9 x.png",
        "renamed 10 x.png > y.png",
        "extra 91 b extra.png",
        "extra 92 left out.png",
    ];
    assert_eq!((same, found), (1, expected.map(str::to_owned).to_vec()));
}
