//! Cases that lost images in the field, one by one.

use crate::executor::{Run, Trouble, length};
use crate::model::{Folder, Rng, Server};
use jtp_core::FileType::Png;
use jtp_core::ImageId;
use jtp_sync::{
    Expect, Fetch, FetchFailure, FileKind, Inventory, Names, Options, Outcome, Planner, Reason,
    Received, Step,
};

const CALM: Trouble = Trouble {
    changes: false,
    errors: false,
    kill: false,
};

/// Syncs the folder once. Returns the number of images fetched and the log.
fn sync(folder: &mut Folder, server: &mut Server, options: Options) -> (usize, Vec<String>) {
    let mut rng = Rng::new(7);
    let mut run = Run::new(&mut rng, folder, server, options, CALM);
    assert!(run.finish());
    (run.fetched.len(), run.log)
}

/// Takes steps, and carries them out in no folder at all: all succeed.
pub(crate) fn steps(planner: &mut Planner) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let Some(step) = planner.next_move() else {
            let Some((id, _)) = planner.next_fetch() else {
                return seen;
            };
            seen.push(format!("fetch {}", id.0));
            assert_eq!(planner.fetched(id), Received::Keep);
            continue;
        };
        seen.push(match &step {
            Step::Rename { id, from, to, .. } => format!("rename {} {from} {to}", id.0),
            Step::KeepAside { id, from, to } => format!("aside {} {from} {to}", id.0),
            Step::Place { id, to } => format!("place {} {to}", id.0),
            Step::Replace { id, to, expect } => format!("replace {} {to} {expect:?}", id.0),
            Step::Discard { id } => format!("discard {}", id.0),
            Step::Refuse { id, reason } => format!("refuse {} {reason:?}", id.0),
            other => panic!("{other:?}"),
        });
        match step {
            Step::Rename { id, .. }
            | Step::KeepAside { id, .. }
            | Step::Place { id, .. }
            | Step::Replace { id, .. } => {
                assert!(planner.is_current(id));
                planner.report(id, Outcome::Done);
            }
            _ => {}
        }
    }
}

pub(crate) fn planner(options: Options, files: &[(&str, u64)], listed: &[(&str, u64)]) -> Planner {
    let mut inventory = Inventory::new();
    for (name, id) in files {
        inventory.add(name, FileKind::Image(ImageId(*id)));
    }
    let mut planner = Planner::new(options);
    planner.set_folder(inventory);
    list(&mut planner, listed);
    planner
}

pub(crate) fn list(planner: &mut Planner, listed: &[(&str, u64)]) {
    planner.begin_list();
    for (name, id) in listed {
        planner.entry(ImageId(*id), name, Png, length(ImageId(*id)));
    }
    let report = planner.end_list(true);
    assert_eq!(report.entries, listed.len() as u64);
}

#[test]
fn r8_an_event_that_takes_over_a_name_does_not_destroy_the_only_copy() {
    // Case 1: on the server, a.jpg is renamed to b.jpg, which is no event, and a new a.jpg is one.
    let mut planner = planner(Options::new(), &[("a.jpg", 1)], &[("a.jpg", 1)]);
    assert!(steps(&mut planner).is_empty());
    planner.announce(ImageId(2), "a.jpg", Png, 10);
    assert_eq!(steps(&mut planner), ["fetch 2"]);
    assert!(planner.wants_list() && !planner.is_finished());
    list(&mut planner, &[("a.jpg", 2), ("b.jpg", 1)]);
    assert_eq!(
        steps(&mut planner),
        ["rename 1 a.jpg b.jpg", "place 2 a.jpg"]
    );
    assert!(planner.is_finished());
    assert_eq!(planner.totals().fetched.images, 1);
}

#[test]
fn r8_an_image_that_the_list_no_longer_names_is_replaced() {
    let mut planner = planner(Options::new(), &[("a.jpg", 1)], &[("a.jpg", 1)]);
    assert!(steps(&mut planner).is_empty());
    planner.announce(ImageId(2), "a.jpg", Png, 10);
    assert_eq!(steps(&mut planner), ["fetch 2"]);
    list(&mut planner, &[("a.jpg", 2)]);
    assert_eq!(
        steps(&mut planner),
        [format!("replace 2 a.jpg {:?}", Expect::Image(ImageId(1)))]
    );
    let totals = planner.totals();
    assert_eq!(
        (
            totals.kept.images,
            totals.placed.images,
            totals.replaced.images
        ),
        (1, 1, 1)
    );
}

#[test]
fn r8_an_image_that_is_never_sent_keeps_no_other_from_coming() {
    // Case 2: cam.jpg changes all the time and comes first.
    let listed = [("cam.jpg", 1), ("d.jpg", 2), ("e.jpg", 3)];
    let mut planner = planner(Options::new(), &[], &listed);
    let mut placed = Vec::new();
    let mut lists = 0;
    loop {
        match planner.next_fetch() {
            Some((ImageId(1), _)) => planner.fetch_failed(ImageId(1), FetchFailure::NotSent),
            Some((id, _)) => assert_eq!(planner.fetched(id), Received::Keep),
            None => {}
        }
        match planner.next_move() {
            None if planner.is_finished() => break,
            Some(Step::Place { id, .. }) => {
                placed.push(id.0);
                planner.report(id, Outcome::Done);
            }
            Some(Step::Refuse { id, reason }) => {
                assert_eq!((id.0, reason), (1, Reason::NotReceived));
            }
            None if planner.wants_list() => {
                lists += 1;
                list(&mut planner, &listed);
            }
            None => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((placed, lists), (vec![2, 3], 2));
    assert_eq!(
        (planner.totals().failed(), planner.totals().unfetched.images),
        (1, 1)
    );
}

#[test]
fn r8_an_image_that_no_list_named_waits_for_one_that_does() {
    // Case 3: an image that was added after the LIST arrives by BATCH.
    let mut planner = planner(Options::new(), &[], &[("a.png", 1)]);
    assert_eq!(planner.fetched(ImageId(2)), Received::Keep);
    assert_eq!(planner.fetched(ImageId(3)), Received::Keep);
    assert_eq!(
        planner.fetched(ImageId(3)),
        Received::Discard,
        "it has arrived twice"
    );
    assert_eq!(steps(&mut planner), ["fetch 1", "place 1 a.png"]);
    assert!(planner.wants_list() && !planner.is_finished());
    list(&mut planner, &[("a.png", 1), ("holiday.png", 2)]);
    assert_eq!(steps(&mut planner), ["discard 3", "place 2 holiday.png"]);
    assert!(planner.is_finished());
    // A server cannot make the client keep any number of such images.
    let kept = (100..3000).filter(|id| planner.fetched(ImageId(*id)) == Received::Keep);
    assert_eq!(kept.count(), 1000);
}

#[test]
fn r8_a_file_that_cannot_be_replaced_affects_its_image_alone() {
    // Case 6: b.png is immutable.
    let mut folder = Folder::of(&[("a.png", 1), ("b.png", 2), ("c.png", 3)]);
    folder.immutable.insert("b.png".to_owned());
    let mut server = Server::of(&[("a.png", 11), ("b.png", 12), ("c.png", 13)]);
    assert_eq!(sync(&mut folder, &mut server, Options::new()).0, 3);
    let expected = [
        ("a.png", 11),
        ("b-000000000000000c.png", 12),
        ("b.png", 2),
        ("c.png", 13),
    ];
    assert_eq!(folder.images(), expected);
    assert_eq!(sync(&mut folder, &mut server, Options::new()).0, 0);
    assert_eq!(folder.images(), expected);
}

#[test]
fn r8_names_that_differ_only_in_case_lose_no_image() {
    // Case 9, on a file system that ignores case and on one that does not.
    for folding in [true, false] {
        for (old, new) in [
            ("A.png", "a.png"),
            ("STRASSE.png", "straße.png"),
            ("É.png", "e\u{301}.png"),
        ] {
            let mut folder = Folder::of(&[(old, 1)]);
            folder.folding = folding;
            let mut server = Server::of(&[(new, 2), ("z.png", 1)]);
            assert_eq!(sync(&mut folder, &mut server, Options::new()).0, 1);
            assert!(folder.contains(ImageId(1)) && folder.contains(ImageId(2)));
            assert_eq!(folder.holders(ImageId(1)), ["z.png"]);
        }
        // Both names on the server: both images have a suffix.
        let mut folder = Folder {
            folding,
            ..Folder::of(&[("a.png", 1)])
        };
        let mut server = Server::of(&[("a.png", 1), ("A.png", 2)]);
        sync(&mut folder, &mut server, Options::new());
        let expected = [("A-0000000000000002.png", 2), ("a-0000000000000001.png", 1)];
        assert_eq!(folder.images(), expected);
    }
}

#[test]
fn r8_swaps_and_rotations_of_names_fetch_nothing() {
    let mut planner = planner(
        Options::new(),
        &[("a.png", 1), ("b.png", 2)],
        &[("a.png", 2), ("b.png", 1)],
    );
    assert_eq!(
        steps(&mut planner),
        [
            "aside 2 b.png b-0000000000000002.png",
            "rename 1 a.png b.png",
            "rename 2 b-0000000000000002.png a.png"
        ]
    );
    let n = 2000;
    let name = |n: u64| format!("{n}.png");
    let names: Vec<String> = (0..n).map(name).collect();
    let files: Vec<(&str, u64)> = (0..n).map(|id| (&*names[id as usize], id)).collect();
    let listed: Vec<(&str, u64)> = (0..n)
        .map(|id| (&*names[((id + 1) % n) as usize], id))
        .collect();
    let mut planner = self::planner(Options::new(), &files, &listed);
    assert_eq!(
        steps(&mut planner).len(),
        n as usize + 1,
        "one file is kept aside"
    );
    assert_eq!(planner.totals().planned.images, 0);
}

#[test]
fn r8_an_interrupted_swap_is_completed_by_the_next_run() {
    let server = [("a.png", 2), ("b.png", 1)];
    let mut folder = Folder::of(&[("a.png", 1), ("b-0000000000000002.png", 2)]);
    assert_eq!(
        sync(&mut folder, &mut Server::of(&server), Options::new()).0,
        0
    );
    assert_eq!(folder.images(), [("a.png", 2), ("b.png", 1)]);
}

#[test]
fn r8_an_interrupted_request_is_repeated_over_another_connection() {
    // Case 12: a request that the server refused has cost nothing.
    let mut planner = planner(Options::new(), &[], &[("a.png", 1)]);
    for _ in 0..20 {
        let Some((id, _)) = planner.next_fetch() else {
            panic!()
        };
        planner.fetch_failed(id, FetchFailure::Interrupted);
    }
    assert_eq!(steps(&mut planner), ["fetch 1", "place 1 a.png"]);
    assert_eq!(planner.totals().planned.images, 1);
}

#[test]
fn r8_of_two_images_with_one_name_the_later_one_has_it() {
    // Case 16: a server that never drops old images.
    let mut planner = planner(Options::new(), &[("cam.png", 1)], &[]);
    planner.begin_list();
    planner.entry(ImageId(1), "cam.png", Png, 10);
    planner.entry(ImageId(2), "cam.png", Png, 10);
    planner.entry(ImageId(2), "other.png", Png, 10);
    let report = planner.end_list(true);
    assert_eq!(
        (report.entries, report.doubled, report.same_name),
        (3, 1, 1)
    );
    assert_eq!(report.examples, [(ImageId(1), ImageId(2))]);
    assert_eq!(
        steps(&mut planner),
        [
            "rename 1 cam.png cam-0000000000000001.png",
            "fetch 2",
            "place 2 cam.png"
        ]
    );
    list(&mut planner, &[("cam.png", 1), ("cam.png", 2)]);
    assert_eq!(steps(&mut planner), [""; 0], "the same LIST again");
}

#[test]
fn r8_an_incomplete_list_is_used_and_proves_nothing_about_the_rest() {
    // Case 16: a LIST with fewer entries than promised.
    let mut planner = planner(Options::new(), &[("a.png", 1), ("b.png", 2)], &[]);
    planner.begin_list();
    planner.entry(ImageId(3), "a.png", Png, 10);
    let report = planner.end_list(false);
    assert_eq!((report.entries, report.gone), (1, 0));
    assert_eq!(
        steps(&mut planner),
        [
            "fetch 3",
            "aside 1 a.png a-0000000000000001.png",
            "place 3 a.png"
        ]
    );
    // A complete one does.
    list(&mut planner, &[("a.png", 3), ("b.png", 4)]);
    assert_eq!(
        steps(&mut planner),
        [
            "fetch 4".to_owned(),
            format!("replace 4 b.png {:?}", Expect::Image(ImageId(2)))
        ]
    );
}

#[test]
fn r5_folders_links_and_other_files_stay_and_the_image_has_its_id_as_a_suffix() {
    for kind in [FileKind::Reserved, FileKind::Other, FileKind::Unread] {
        let mut inventory = Inventory::new();
        inventory.add("a.png", kind);
        let mut planner = Planner::new(Options::new());
        planner.set_folder(inventory);
        list(&mut planner, &[("a.png", 1)]);
        assert_eq!(
            steps(&mut planner),
            [
                "fetch 1",
                "place 1 a-0000000000000001.png",
                "refuse 1 NameTaken"
            ]
        );
        assert_eq!(planner.totals().misnamed.images, 1);
        planner.file_gone("a.png");
        list(&mut planner, &[("a.png", 1)]);
        assert_eq!(
            steps(&mut planner),
            ["rename 1 a-0000000000000001.png a.png"]
        );
        assert_eq!(planner.totals().misnamed.images, 0);
    }
}

#[test]
fn r5_an_unrecognised_file_is_an_image_only_if_the_server_lists_it() {
    let mut inventory = Inventory::new();
    inventory.add("a.img", FileKind::Unrecognised(ImageId(1)));
    inventory.add("b.img", FileKind::Unrecognised(ImageId(2)));
    let mut planner = Planner::new(Options::new());
    planner.set_folder(inventory);
    list(&mut planner, &[("a.img", 3), ("c.img", 2)]);
    assert_eq!(
        steps(&mut planner),
        [
            "rename 2 b.img c.img",
            "fetch 3",
            "place 3 a-0000000000000003.img",
            "refuse 3 NameTaken"
        ]
    );
}

#[test]
fn options_keep_files_keep_names_and_fetch_all() {
    let keep = Options::new().with_keep_existing(true);
    let mut planner = planner(keep, &[("a.png", 9)], &[("a.png", 1)]);
    assert_eq!(steps(&mut planner)[1], "place 1 a-0000000000000001.png");
    let any = Options::new().with_names(Names::Any);
    let mut planner = self::planner(any.clone(), &[("x.png", 1)], &[("a.png", 1)]);
    assert!(steps(&mut planner).is_empty());
    let mut planner = self::planner(any, &[("x.png", 1)], &[("a.png", 1), ("x.png", 2)]);
    assert_eq!(
        steps(&mut planner),
        ["fetch 2", "rename 1 x.png a.png", "place 2 x.png"]
    );
    let all = Options::new().with_fetch(Fetch::All);
    let mut planner = self::planner(
        all,
        &[("a.png", 1), ("b.png", 2)],
        &[("a.png", 2), ("b.png", 1)],
    );
    let seen = steps(&mut planner);
    assert_eq!(
        seen.iter().filter(|step| step.starts_with("fetch")).count(),
        2
    );
    assert_eq!(planner.totals().placed.images, 2);
}

#[test]
fn r8_a_file_that_vanishes_or_appears_while_it_runs_is_noticed() {
    let mut planner = planner(
        Options::new(),
        &[("a.png", 1)],
        &[("a.png", 1), ("b.png", 2)],
    );
    let Some((ImageId(2), _)) = planner.next_fetch() else {
        panic!()
    };
    planner.file_found("copy.png", FileKind::Image(ImageId(2)));
    assert_eq!(steps(&mut planner), ["rename 2 copy.png b.png"]);
    assert_eq!(planner.fetched(ImageId(2)), Received::Discard);
    planner.file_gone("a.png");
    assert_eq!(steps(&mut planner), ["fetch 1", "place 1 a.png"]);
    assert!(planner.is_finished());
}

#[test]
fn r2_a_broken_image_is_requested_as_often_as_the_options_say() {
    let options = Options::new().with_attempts(3);
    let mut planner = planner(options, &[], &[("a.png", 1)]);
    for _ in 0..3 {
        let Some((id, _)) = planner.next_fetch() else {
            panic!()
        };
        planner.fetch_failed(id, FetchFailure::Broken);
    }
    assert_eq!(steps(&mut planner), ["refuse 1 NotReceived"]);
    assert!(planner.is_finished());
    planner.retry_failed();
    assert_eq!(steps(&mut planner), ["fetch 1", "place 1 a.png"]);
    assert_eq!(planner.totals().failed(), 0);
}

#[test]
fn r8_a_step_that_waits_is_not_current_if_an_event_names_what_it_replaces() {
    let mut planner = planner(
        Options::new(),
        &[("a.png", 9)],
        &[("a.png", 1), ("b.png", 2)],
    );
    let _ = (planner.next_fetch(), planner.fetched(ImageId(1)));
    let Some(Step::Replace { id, .. }) = planner.next_move() else {
        panic!()
    };
    assert!(planner.is_current(id));
    planner.announce(ImageId(9), "c.png", Png, 10);
    assert!(!planner.is_current(id));
    planner.report(id, Outcome::Stale);
    assert_eq!(
        steps(&mut planner),
        [
            "rename 9 a.png c.png",
            "place 1 a.png",
            "fetch 2",
            "place 2 b.png"
        ]
    );
    // Nor if a LIST does not name the image any more.
    planner.announce(ImageId(3), "d.png", Png, 10);
    let _ = (planner.next_fetch(), planner.fetched(ImageId(3)));
    assert!(matches!(planner.next_move(), Some(Step::Place { .. })));
    list(&mut planner, &[("a.png", 1)]);
    assert!(!planner.is_current(ImageId(3)));
    planner.report(ImageId(3), Outcome::Stale);
    assert_eq!(steps(&mut planner), ["discard 3"]);
    assert!(planner.is_finished());
}

#[test]
fn r8_a_file_system_that_stores_names_in_another_normal_form_causes_no_renames() {
    let mut planner = planner(Options::new(), &[("e\u{301}.png", 1)], &[("é.png", 1)]);
    assert_eq!(steps(&mut planner), [""; 0]);
    assert!(planner.is_finished());
}

#[test]
fn r8_an_image_gets_its_name_back_when_the_newer_one_is_gone() {
    let both = [("cam.png", 1), ("cam.png", 2)];
    let mut planner = planner(Options::new(), &[], &both);
    let seen = steps(&mut planner);
    assert!(seen.contains(&"place 1 cam-0000000000000001.png".to_owned()));
    list(&mut planner, &[("cam.png", 1)]);
    assert_eq!(
        steps(&mut planner),
        ["rename 1 cam-0000000000000001.png cam.png"]
    );
}

#[test]
fn r8_a_second_copy_that_a_step_in_progress_uses_is_waited_for() {
    let listed = [("x.png", 1), ("y.png", 2), ("c.png", 3)];
    let mut planner = planner(Options::new(), &[("x.png", 2), ("y.png", 3)], &listed);
    let Some(Step::Rename { id, from, .. }) = planner.next_move() else {
        panic!("no rename")
    };
    assert_eq!((id, &*from), (ImageId(3), "y.png"));
    // Meanwhile image 1 arrives, and another program replaces y.png with a copy of x.png.
    assert_eq!(planner.next_fetch().map(|(id, _)| id), Some(ImageId(1)));
    assert_eq!(planner.fetched(ImageId(1)), Received::Keep);
    planner.file_found("y.png", FileKind::Image(ImageId(2)));
    assert_eq!(planner.next_move(), None);
    planner.report(ImageId(3), Outcome::Stale);
    let seen = steps(&mut planner);
    assert!(
        seen.iter().any(|step| step.starts_with("replace 1 x.png")),
        "{seen:?}"
    );
}

#[test]
fn r8_a_list_that_fails_proves_nothing_about_the_rest() {
    let mut planner = planner(Options::new(), &[("a.png", 9)], &[]);
    planner.begin_list();
    planner.entry(ImageId(1), "a.png", Png, 10);
    planner.list_failed();
    let aside = "aside 9 a.png a-0000000000000009.png";
    assert_eq!(steps(&mut planner), ["fetch 1", aside, "place 1 a.png"]);
}

#[test]
fn r8_a_file_that_cannot_be_renamed_is_not_replaced() {
    let listed = [("b.png", 1), ("a.png", 2)];
    let mut planner = planner(Options::new(), &[("a.png", 1)], &listed);
    while let Some(step) = planner.next_move() {
        if let Step::Rename { id, .. } = step {
            planner.report(id, Outcome::Failed);
        }
    }
    let seen = steps(&mut planner);
    let expected = "place 2 a-0000000000000002.png".to_owned();
    assert!(seen.contains(&expected), "{seen:?}");
}

#[test]
fn r8_a_name_that_a_step_in_progress_uses_is_waited_for() {
    let listed = [("a.png", 2), ("b.png", 1), ("b-0000000000000002.png", 3)];
    let mut planner = planner(Options::new(), &[("a.png", 1), ("b.png", 2)], &listed);
    let aside = planner.next_move();
    assert!(matches!(aside, Some(Step::KeepAside { to, .. }) if to.as_str() == listed[2].0));
    assert_eq!(planner.next_fetch().map(|(id, _)| id), Some(ImageId(3)));
    assert_eq!(planner.fetched(ImageId(3)), Received::Keep);
    assert_eq!(planner.next_move(), None);
}
