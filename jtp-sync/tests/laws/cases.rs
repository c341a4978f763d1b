//! Cases that lost images in the field, one by one.

use jtp_core::ImageId;

use crate::script::{go_on, play, scripts, steps};

scripts! {
    // Case 1: on the server, a.jpg is renamed to b.jpg, which is no event, and a new a.jpg is one.
    fn r8_an_event_that_takes_over_a_name_does_not_destroy_the_only_copy() {
        "folder a.jpg=1
         list a.jpg=1
         > nothing
         event a.jpg=2
         > fetch 2
         wants-list
         unfinished
         list a.jpg=2 b.jpg=1
         > rename 1 a.jpg b.jpg, place 2 a.jpg
         finished
         fetched 1"
    }

    fn r8_an_image_that_the_list_no_longer_names_is_replaced() {
        "folder a.jpg=1
         list a.jpg=1
         > nothing
         event a.jpg=2
         > fetch 2
         list a.jpg=2
         > replace 2 a.jpg image 1
         kept 1
         placed 1
         replaced 1"
    }

    // Case 2: cam.jpg changes all the time and comes first.
    fn r8_an_image_that_is_never_sent_keeps_no_other_from_coming() {
        "folder
         list cam.jpg=1 d.jpg=2 e.jpg=3
         request 1
         fails 1 NotSent
         > fetch 2, place 2 d.jpg, fetch 3, place 3 e.jpg
         wants-list
         list cam.jpg=1 d.jpg=2 e.jpg=3
         request 1
         fails 1 NotSent
         > nothing
         wants-list
         list cam.jpg=1 d.jpg=2 e.jpg=3
         > refuse 1 NotReceived
         finished
         unfetched 1
         all-failures 1"
    }

    fn r5_an_unrecognised_file_is_an_image_only_if_the_server_lists_it() {
        "folder a.img=unrecognised-1 b.img=unrecognised-2
         list a.img=3 c.img=2
         > rename 2 b.img c.img, fetch 3, place 3 a-0000000000000003.img, refuse 3 NameTaken"
    }

    fn r8_a_file_that_vanishes_or_appears_while_it_runs_is_noticed() {
        "folder a.png=1
         list a.png=1 b.png=2
         request 2
         found copy.png=2
         > rename 2 copy.png b.png
         discards 2
         gone a.png
         > fetch 1, place 1 a.png
         finished"
    }

    fn r8_a_step_that_waits_is_not_current_if_an_event_names_what_it_replaces() {
        "folder a.png=9
         list a.png=1 b.png=2
         gets 1
         begins replace 1 a.png image 9
         current 1
         event c.png=9
         outdated 1
         stale 1
         > rename 9 a.png c.png, place 1 a.png, fetch 2, place 2 b.png
         event d.png=3
         gets 3
         begins place 3 d.png
         list a.png=1
         outdated 3
         stale 3
         > discard 3
         finished"
    }

    fn r8_a_list_that_fails_proves_nothing_about_the_rest() {
        "folder a.png=9
         list
         part a.png=1
         list-fails
         > fetch 1, aside 9 a.png a-0000000000000009.png, place 1 a.png"
    }

    fn r8_a_file_that_nobody_lists_and_that_changed_stays_unless_a_scan_misses_it() {
        "folder a.png=9
         part a.png=1
         list-fails
         gets 1
         begins aside 9 a.png a-0000000000000009.png
         folder
         outdated 9
         stale 9
         > place 1 a.png
         new
         folder a.png=9
         part a.png=1
         list-fails
         gets 1
         begins aside 9 a.png a-0000000000000009.png
         stale 9
         > place 1 a-0000000000000001.png, refuse 1 NameTaken"
    }

    fn r8_a_file_that_cannot_be_renamed_is_not_replaced() {
        "folder a.png=1
         list b.png=1 a.png=2
         begins rename 1 a.png b.png
         failed 1
         > refuse 1 CannotRename, fetch 2, place 2 a-0000000000000002.png, refuse 2 NameTaken"
    }

    fn r8_a_file_system_that_stores_names_in_another_normal_form_causes_no_renames() {
        "folder e\u{301}.png=1\nlist é.png=1\n> nothing\nfinished"
    }

    fn options_keep_files_keep_names_and_fetch_all() {
        "new keep-existing
         folder a.png=9
         list a.png=1
         > fetch 1, place 1 a-0000000000000001.png, refuse 1 NameTaken
         new any-names
         folder x.png=1
         list a.png=1
         > nothing
         list a.png=1 x.png=2
         > fetch 2, rename 1 x.png a.png, place 2 x.png
         new fetch-all
         folder a.png=1
         list a.png=1
         > fetch 1, replace 1 a.png image 1
         placed 1"
    }

    fn r2_a_broken_image_is_requested_as_often_as_the_options_say() {
        "new three-attempts
         folder
         list a.png=1
         request 1
         fails 1 Broken
         request 1
         fails 1 Broken
         request 1
         fails 1 Broken
         > refuse 1 NotReceived
         finished
         retry
         > fetch 1, place 1 a.png
         all-failures 0"
    }

    fn r8_a_copy_or_a_name_that_a_step_in_progress_uses_is_waited_for() {
        "# While y.png is being renamed, image 1 arrives, and another program replaces y.png with a copy of x.png.
         folder x.png=2 y.png=3
         list x.png=1 y.png=2 c.png=3
         begins rename 3 y.png c.png
         gets 1
         found y.png=2
         begins nothing
         found c.png=3
         begins nothing
         stale 3
         > replace 1 x.png copy 2 y.png
         finished
         new
         folder a.png=1 b.png=2
         list a.png=2 b.png=1 b-0000000000000002.png=3
         begins aside 2 b.png b-0000000000000002.png
         gets 3
         begins nothing"
    }
}

#[test]
fn r8_an_image_that_no_list_named_waits_for_one_that_does() {
    // Case 3: an image that was added after the LIST arrives by BATCH.
    let mut planner = play(
        "folder
         list a.png=1
         keeps 2
         keeps 3
         discards 3
         > fetch 1, place 1 a.png
         wants-list
         unfinished
         list a.png=1 holiday.png=2
         > discard 3, place 2 holiday.png
         finished",
    );
    // A server cannot make the client keep any number of such images.
    let kept = (100..3000).filter(|id| planner.fetched(ImageId(*id)) == jtp_sync::Received::Keep);
    assert_eq!(kept.count(), 1000);
}

#[test]
fn r8_swaps_and_rotations_of_names_fetch_nothing() {
    play(
        "folder a.png=1 b.png=2
         list a.png=2 b.png=1
         > aside 2 b.png b-0000000000000002.png, rename 1 a.png b.png
         > rename 2 b-0000000000000002.png a.png",
    );
    let files = |shift| (0..2000).map(move |n| format!(" {}.png={n}", (n + shift) % 2000));
    let (files, listed): (String, String) = (files(0).collect(), files(1).collect());
    let mut planner = play(&format!("folder{files}\nlist{listed}\nplanned 0"));
    assert_eq!(steps(&mut planner).len(), 2001, "one file is kept aside");
}

#[test]
fn r8_an_interrupted_request_is_repeated_over_another_connection() {
    // Case 12: a request that the server refused has cost nothing.
    let interrupted = "request 1\nfails 1 Interrupted\n".repeat(20);
    play(&format!(
        "folder
         list a.png=1
         {interrupted}
         > fetch 1, place 1 a.png
         planned 1"
    ));
}

#[test]
fn r8_of_two_images_with_one_name_the_later_one_has_it() {
    // Case 16: a server that never drops old images.
    let mut planner = play("folder cam.png=1\npart cam.png=1 cam.png=2 other.png=2");
    let report = planner.end_list(true);
    assert_eq!(
        (report.entries, report.doubled, report.same_name),
        (3, 1, 1)
    );
    assert_eq!(report.examples, [(ImageId(1), ImageId(2))]);
    go_on(
        &mut planner,
        "> rename 1 cam.png cam-0000000000000001.png, fetch 2, place 2 cam.png
         list cam.png=1 cam.png=2
         > nothing
         list cam.png=1
         > rename 1 cam-0000000000000001.png cam.png",
    );
}

#[test]
fn r8_an_incomplete_list_is_used_and_proves_nothing_about_the_rest() {
    // Case 16: a LIST with fewer entries than promised.
    let mut planner = play("folder a.png=1 b.png=2\nlist\npart a.png=3");
    let report = planner.end_list(false);
    assert_eq!((report.entries, report.gone), (1, 0));
    go_on(
        &mut planner,
        "> fetch 3, aside 1 a.png a-0000000000000001.png, place 3 a.png
         list a.png=3 b.png=4
         > fetch 4, replace 4 b.png image 2",
    );
}

#[test]
fn r5_folders_links_and_other_files_stay_and_the_image_has_its_id_as_a_suffix() {
    for kind in ["reserved", "other", "unread"] {
        play(&format!(
            "folder a.png={kind}
             list a.png=1
             > fetch 1, place 1 a-0000000000000001.png, refuse 1 NameTaken
             misnamed 1
             gone a.png
             list a.png=1
             > rename 1 a-0000000000000001.png a.png
             misnamed 0"
        ));
    }
}
