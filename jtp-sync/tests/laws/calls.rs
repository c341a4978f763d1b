//! The calls of connections, scans and bounds, one by one.

use crate::cases::{list, planner, steps};
use jtp_core::FileType::Png;
use jtp_core::ImageId;
use jtp_sync::{
    Count, Expect, Fetch, FetchFailure, FileKind, Inventory, Names, Options, Outcome, Planner,
    Received, Step,
};

fn inventory(files: &[(&str, FileKind)]) -> Inventory {
    let mut inventory = Inventory::new();
    for (name, kind) in files {
        assert!(inventory.add(name, *kind));
    }
    inventory
}

const fn image(id: u64) -> FileKind {
    FileKind::Image(ImageId(id))
}

fn have(planner: &Planner) -> Vec<u64> {
    planner.have().map(|id| id.0).collect()
}

#[test]
fn r8_nothing_is_done_before_the_folder_is_known() {
    let mut planner = Planner::new(Options::new());
    list(&mut planner, &[("a.png", 1), ("b.png", 2)]);
    assert_eq!((planner.next_move(), planner.next_fetch()), (None, None));
    assert_eq!(planner.fetch_all(), Count::default());
    assert!(!planner.is_finished());
    planner.set_folder(inventory(&[("x.png", image(1))]));
    assert_eq!(
        steps(&mut planner),
        ["rename 1 x.png a.png", "fetch 2", "place 2 b.png"]
    );
    assert!(planner.is_finished());
}

#[test]
fn r8_a_scan_during_a_list_counts_when_the_list_ends() {
    let mut planner = Planner::new(Options::new());
    planner.begin_list();
    planner.entry(ImageId(1), "a.png", Png, 10);
    planner.set_folder(inventory(&[("a.png", image(2))]));
    planner.entry(ImageId(2), "b.png", Png, 10);
    assert_eq!(planner.end_list(true).entries, 2);
    assert_eq!((planner.wanted().images, have(&planner)), (1, vec![2]));
    let seen = steps(&mut planner);
    assert_eq!(seen, ["rename 2 a.png b.png", "fetch 1", "place 1 a.png"]);
}

#[test]
fn r8_a_later_scan_replaces_what_the_planner_knew() {
    let mut planner = planner(
        Options::new(),
        &[("a.png", 1), ("b.png", 2)],
        &[("a.png", 1), ("b.png", 2), ("c.png", 3), ("d.png", 4)],
    );
    assert_eq!(
        planner.next_fetch(),
        Some((ImageId(3), planner.length(ImageId(3)).unwrap()))
    );
    // 1 is gone, 2 has another name, 3 was copied here while it was requested, d.png is a folder now.
    planner.set_folder(inventory(&[
        ("x.png", image(2)),
        ("y.png", image(3)),
        ("d.png", FileKind::Reserved),
    ]));
    assert_eq!(planner.requested(), Count::default());
    assert_eq!(planner.wanted().images, 2);
    assert_eq!(
        steps(&mut planner),
        [
            "rename 2 x.png b.png",
            "rename 3 y.png c.png",
            "fetch 4",
            "place 4 d-0000000000000004.png",
            "refuse 4 NameTaken",
            "fetch 1",
            "place 1 a.png",
        ]
    );
    assert_eq!(planner.fetched(ImageId(3)), Received::Discard);
    assert!(planner.is_finished());
    let totals = planner.totals();
    assert_eq!((totals.planned.images, totals.misnamed.images), (2, 1));
    // The folder is gone.
    planner.set_folder(inventory(&[("d-0000000000000004.png", image(4))]));
    let seen = steps(&mut planner);
    assert_eq!(
        seen.iter().filter(|step| step.starts_with("fetch")).count(),
        3
    );
    assert!(seen.contains(&"rename 4 d-0000000000000004.png d.png".to_owned()));
    assert_eq!(planner.totals().misnamed.images, 0);
}

#[test]
fn r8_a_step_that_a_scan_overtakes_is_not_current_and_its_result_counts() {
    let mut planner = planner(
        Options::new(),
        &[("x.png", 1)],
        &[("a.png", 1), ("b.png", 2)],
    );
    let Some(Step::Rename { id, .. }) = planner.next_move() else {
        panic!()
    };
    planner.set_folder(inventory(&[("x.png", image(1))]));
    assert!(!planner.is_current(id));
    planner.report(id, Outcome::Stale);
    // Here the step was already done.
    let Some(Step::Rename { id, .. }) = planner.next_move() else {
        panic!()
    };
    planner.set_folder(inventory(&[("x.png", image(1))]));
    planner.report(id, Outcome::Done);
    assert_eq!(steps(&mut planner), ["fetch 2", "place 2 b.png"]);
    assert_eq!(planner.totals().renamed.images, 1);
    // The same for an image that was placed: its bytes are not here any more.
    planner.announce(ImageId(3), "c.png", Png, 10);
    assert_eq!(planner.next_fetch(), Some((ImageId(3), 10)));
    assert_eq!(planner.fetched(ImageId(3)), Received::Keep);
    assert!(matches!(planner.next_move(), Some(Step::Place { .. })));
    planner.set_folder(inventory(&[("a.png", image(1)), ("b.png", image(2))]));
    planner.report(ImageId(3), Outcome::Done);
    assert_eq!(steps(&mut planner), [""; 0]);
    assert!(planner.is_finished());
}

#[test]
fn r8_the_scan_says_whether_names_that_differ_in_case_are_one() {
    for (sensitive, expected) in [
        (true, vec!["fetch 2", "place 2 a.png"]),
        (
            false,
            vec![
                "fetch 2",
                "replace 2 a.png Image(ImageId(0000000000000009))",
            ],
        ),
    ] {
        let mut folder = inventory(&[("A.png", image(9))]);
        folder.set_case_sensitive(sensitive);
        assert_eq!(folder.is_case_sensitive(), sensitive);
        let mut planner = Planner::new(Options::new());
        planner.set_folder(folder);
        list(&mut planner, &[("a.png", 2)]);
        assert_eq!(steps(&mut planner), expected);
    }
}

#[test]
fn r8_a_request_for_everything_names_all_that_is_neither_wanted_nor_requested() {
    let listed = [("a.png", 1), ("b.png", 2), ("c.png", 3), ("d.png", 4)];
    let mut planner = planner(Options::new(), &[("x.png", 2)], &listed);
    assert_eq!(have(&planner), [2], "before any step");
    let wanted = planner.wanted();
    assert_eq!(wanted.images, 3);
    assert_eq!(
        (planner.fetch_all(), planner.wanted()),
        (wanted, Count::default())
    );
    assert_eq!((planner.requested(), have(&planner)), (wanted, vec![2]));
    assert_eq!(
        (planner.next_fetch(), planner.fetch_all()),
        (None, Count::default())
    );
    assert_eq!(planner.fetched(ImageId(3)), Received::Keep);
    assert_eq!(
        (planner.requested().images, have(&planner)),
        (2, vec![2, 3])
    );
    planner.fetch_all_ended(FetchFailure::NotSent);
    assert_eq!(planner.requested(), Count::default());
    assert!(planner.wants_list());
    list(&mut planner, &listed);
    planner.fetch_all();
    planner.fetch_all_ended(FetchFailure::Final);
    assert_eq!(planner.totals().unfetched.images, 2);
    assert_eq!(
        have(&planner),
        [1, 2, 3, 4],
        "what has failed is not requested again"
    );
    planner.retry_failed();
    assert_eq!(have(&planner), [2, 3]);
    assert_eq!(planner.name(ImageId(4)).unwrap().as_str(), "d.png");
    assert_eq!(
        (planner.name(ImageId(5)), planner.length(ImageId(5))),
        (None, None)
    );
}

#[test]
fn r8_an_interrupted_image_is_requested_after_all_others() {
    let listed = [("a.png", 1), ("b.png", 2), ("c.png", 3)];
    let mut planner = planner(Options::new(), &[], &listed);
    let take = |planner: &mut Planner| planner.next_fetch().map(|(id, _)| id.0);
    assert_eq!(take(&mut planner), Some(1));
    planner.fetch_failed(ImageId(1), FetchFailure::Interrupted);
    assert_eq!((take(&mut planner), take(&mut planner)), (Some(2), Some(3)));
    planner.fetch_failed(ImageId(3), FetchFailure::Interrupted);
    assert_eq!((take(&mut planner), take(&mut planner)), (Some(1), Some(3)));
    assert_eq!(planner.requested().images, 3);
    planner.fetch_failed(ImageId(2), FetchFailure::Interrupted);
    // Of a request for everything, another connection takes over the end.
    planner.fetch_all();
    let of_all = |planner: &mut Planner, most| planner.next_of_all(most).map(|(id, _)| id.0);
    assert_eq!(of_all(&mut planner, 0), None, "it is longer");
    assert_eq!(of_all(&mut planner, u32::MAX), Some(2));
    assert_eq!(of_all(&mut planner, u32::MAX), None, "by their IDs");
    planner.fetch_all_ended(FetchFailure::Final);
    assert_eq!(planner.requested().images, 3);
}

#[test]
fn r8_without_another_list_nothing_waits_for_one() {
    let listed = [("a.png", 1), ("b.png", 2), ("c.png", 3)];
    let mut planner = planner(Options::new(), &[("a.png", 1)], &listed);
    assert!(planner.next_fetch().is_some() && planner.next_fetch().is_some());
    planner.fetch_failed(ImageId(2), FetchFailure::NotSent);
    assert_eq!(planner.fetched(ImageId(7)), Received::Keep);
    // Nobody knows whether the server still has 1.
    planner.announce(ImageId(4), "a.png", Png, 10);
    assert_eq!(planner.fetched(ImageId(4)), Received::Keep);
    assert_eq!(planner.fetched(ImageId(3)), Received::Keep);
    assert_eq!(steps(&mut planner), ["place 3 c.png"]);
    assert!(planner.wants_list() && !planner.is_finished());
    planner.no_more_lists();
    assert!(!planner.wants_list());
    assert_eq!(
        steps(&mut planner),
        [
            "discard 7",
            "refuse 2 NotReceived",
            "rename 1 a.png a-0000000000000001.png",
            "place 4 a.png"
        ]
    );
    assert!(planner.is_finished());
    assert_eq!(
        (planner.totals().failed(), planner.totals().replaced.images),
        (1, 0)
    );
    // Something asks again.
    assert_eq!(planner.fetched(ImageId(8)), Received::Keep);
    assert!(planner.wants_list());
    planner.no_more_lists();
    assert_eq!(steps(&mut planner), ["discard 8"]);
    assert!(planner.is_finished());
}

#[test]
fn r8_list_that_fails_is_wanted_again_and_proves_nothing() {
    let mut planner = planner(Options::new(), &[("a.png", 1)], &[("a.png", 1)]);
    planner.announce(ImageId(2), "a.png", Png, 10);
    assert_eq!(steps(&mut planner), ["fetch 2"]);
    assert!(planner.wants_list());
    planner.begin_list();
    planner.entry(ImageId(3), "c.png", Png, 10);
    assert!(planner.next_move().is_none() && !planner.wants_list());
    planner.list_failed();
    assert!(planner.wants_list() && !planner.is_finished());
    assert_eq!(steps(&mut planner), ["fetch 3", "place 3 c.png"]);
    list(&mut planner, &[("a.png", 2), ("b.png", 1), ("c.png", 3)]);
    planner.list_failed();
    assert!(!planner.wants_list());
    assert_eq!(
        steps(&mut planner),
        ["rename 1 a.png b.png", "place 2 a.png"]
    );
    assert!(planner.is_finished());
}

#[test]
fn r8_without_any_list_a_planner_is_finished() {
    let mut planner = Planner::new(Options::new());
    assert!(planner.wants_list() && !planner.is_finished());
    planner.no_more_lists();
    assert!(!planner.wants_list() && planner.is_finished());
}

#[test]
fn r8_a_discarded_image_that_arrives_again_is_kept_once() {
    let mut planner = planner(Options::new(), &[], &[("a.png", 1)]);
    assert_eq!(planner.fetched(ImageId(7)), Received::Keep);
    list(&mut planner, &[("a.png", 1)]);
    // The caller has not deleted it yet.
    assert_eq!(planner.fetched(ImageId(7)), Received::Discard);
    list(&mut planner, &[("a.png", 1), ("b.png", 7)]);
    assert_eq!(steps(&mut planner)[0], "place 7 b.png");
}

#[test]
fn r8_where_files_keep_their_names_those_made_from_an_id_get_their_own() {
    let any = || Options::new().with_names(Names::Any);
    // Case 3: images that were stored under their ID.
    let (id, suffixed, numbered) = (
        "0000000000000001.jpg",
        "b-0000000000000002.png",
        "c-0000000000000003-4.png",
    );
    let files = [
        (id, 1),
        (suffixed, 2),
        (numbered, 3),
        ("mine.png", 4),
        ("5-000.png", 5),
    ];
    let listed = [
        ("a.png", 1),
        ("b.png", 2),
        ("c.png", 3),
        ("d.png", 4),
        ("e.png", 5),
    ];
    let mut planner = planner(any(), &files, &listed);
    assert_eq!(
        steps(&mut planner),
        [
            format!("rename 1 {id} a.png"),
            format!("rename 2 {suffixed} b.png"),
            format!("rename 3 {numbered} c.png"),
        ]
    );
    // A second file with a name of the user's is enough.
    let mut planner = self::planner(any(), &[(id, 1), ("mine.png", 1)], &[("a.png", 1)]);
    assert_eq!(steps(&mut planner), [""; 0]);
    // The name is not free.
    let mut planner = self::planner(
        any(),
        &[(id, 1), ("a.png", 2)],
        &[("a.png", 1), ("b.png", 2)],
    );
    assert_eq!(steps(&mut planner), ["refuse 1 NameTaken"]);
    assert_eq!(planner.totals().misnamed.images, 1);
    planner.file_gone("a.png");
    assert_eq!(
        steps(&mut planner),
        [
            format!("rename 1 {id} a.png"),
            "fetch 2".to_owned(),
            "place 2 b.png".to_owned()
        ]
    );
    assert_eq!(planner.totals().misnamed.images, 0);
}

#[test]
fn r8_where_files_keep_their_names_one_that_is_in_the_way_gets_its_own() {
    let any = Options::new().with_names(Names::Any);
    let files = [("a.png", 2), ("0000000000000002-2.png", 9)];
    let mut planner = planner(any, &files, &[("a.png", 1), ("b.png", 2)]);
    assert_eq!(
        steps(&mut planner),
        ["fetch 1", "rename 2 a.png b.png", "place 1 a.png"]
    );
}

#[test]
fn r8_an_unread_file_with_a_listed_image_is_replaced_only_when_that_is_safe() {
    let all = Options::new().with_fetch(Fetch::All);
    let mut planner = Planner::new(all.clone());
    planner.set_folder(inventory(&[("a.png", FileKind::Unread)]));
    list(&mut planner, &[("a.png", 1), ("b.png", 2)]);
    assert_eq!(planner.fetch_all().images, 2);
    assert_eq!(planner.fetched(ImageId(1)), Received::Keep);
    let Some(Step::Replace {
        id,
        expect: Expect::Unread,
        ..
    }) = planner.next_move()
    else {
        panic!()
    };
    assert!(
        planner.may_replace_unread(id, Some(ImageId(1))),
        "the same image"
    );
    assert!(
        planner.may_replace_unread(id, Some(ImageId(9))),
        "no LIST names it"
    );
    assert!(planner.may_replace_unread(id, None), "nobody can read it");
    assert!(!planner.may_replace_unread(id, Some(ImageId(2))));
    planner.file_found("a.png", image(2));
    planner.report(id, Outcome::Stale);
    // 2 has not arrived, and may never do so.
    assert_eq!(
        steps(&mut planner),
        ["rename 2 a.png b.png", "place 1 a.png"]
    );
    planner.fetch_failed(ImageId(2), FetchFailure::Final);
    assert_eq!(steps(&mut planner), ["refuse 2 CannotFetch"]);
    assert!(planner.is_finished());

    let mut planner = Planner::new(all.with_keep_existing(true));
    planner.set_folder(inventory(&[("a.png", FileKind::Unread)]));
    list(&mut planner, &[("a.png", 1)]);
    assert!(planner.may_replace_unread(ImageId(1), Some(ImageId(1))));
    assert!(!planner.may_replace_unread(ImageId(1), Some(ImageId(9))));
    assert!(!planner.may_replace_unread(ImageId(1), None));
}

#[test]
fn r8_a_later_scan_that_does_not_read_files_fetches_nothing_again() {
    let mut planner = Planner::new(Options::new().with_fetch(Fetch::All));
    planner.set_folder(Inventory::new());
    list(&mut planner, &[("a.png", 1), ("b.png", 2)]);
    assert_eq!(steps(&mut planner).len(), 4);
    planner.set_folder(inventory(&[("a.png", FileKind::Unread)]));
    assert_eq!(steps(&mut planner), ["fetch 2", "place 2 b.png"]);
}

#[test]
fn r5_a_long_name_with_a_number_keeps_the_id() {
    let long = format!("{}.png", "é".repeat(100));
    let (own, id) = (
        format!("{}-{}.png", "é".repeat(100), ImageId(1)),
        ImageId(1),
    );
    let mut planner = Planner::new(Options::new());
    planner.set_folder(inventory(&[
        (&long, FileKind::Other),
        (&own, FileKind::Other),
    ]));
    list(&mut planner, &[(&long, 1)]);
    assert_eq!(
        steps(&mut planner)[1],
        format!("place 1 {}-{id}-1.png", "é".repeat(50))
    );
    assert!(planner.is_finished());
}
