//! The calls of connections, scans and bounds, one by one.

use jtp_core::ImageId;

use crate::script::{go_on, play, scripts};

scripts! {
    // 1 is gone, 2 has another name, 3 was copied here while it was requested, d.png is a folder now, and later it is not.
    fn r8_a_later_scan_replaces_what_the_planner_knew() {
        "folder a.png=1 b.png=2
         list a.png=1 b.png=2 c.png=3 d.png=4
         request 3
         folder x.png=2 y.png=3 d.png=reserved
         requested 0
         wanted 2
         > rename 2 x.png b.png, rename 3 y.png c.png, fetch 4, place 4 d-0000000000000004.png
         > refuse 4 NameTaken, fetch 1, place 1 a.png
         discards 3
         finished
         planned 2
         misnamed 1
         folder a.png=1 b.png=2 c.png=3 d-0000000000000004.png=4
         > rename 4 d-0000000000000004.png d.png
         misnamed 0"
    }

    fn r8_an_interrupted_image_is_requested_after_all_others() {
        "folder
         list a.png=1 b.png=2 c.png=3
         request 1
         fails 1 Interrupted
         request 2
         request 3
         fails 3 Interrupted
         request 1
         request 3
         requested 3
         fails all Interrupted
         wanted 3"
    }

    fn r8_list_that_fails_is_wanted_again_and_proves_nothing() {
        "folder a.png=1
         list a.png=1
         event a.png=2
         > fetch 2
         wants-list
         part c.png=3
         begins nothing
         wants-no-list
         list-fails
         wants-list
         unfinished
         > fetch 3, place 3 c.png
         list a.png=2 b.png=1 c.png=3
         list-fails
         wants-no-list
         > rename 1 a.png b.png, place 2 a.png
         finished"
    }

    // Until the step, the caller has not deleted it.
    fn r8_a_discarded_image_that_arrives_again_is_kept_once() {
        "folder
         list a.png=1
         keeps 7
         list a.png=1
         discards 7
         list a.png=1 b.png=7
         > place 7 b.png, fetch 1, place 1 a.png"
    }

    // Nobody knows whether the server still has 1.
    fn r8_without_another_list_nothing_waits_for_one() {
        "wants-list
         unfinished
         no-more-lists
         wants-no-list
         finished
         new
         folder a.png=1
         list a.png=1 b.png=2 c.png=3
         request 2
         request 3
         fails 2 NotSent
         keeps 7
         event a.png=4
         keeps 4
         keeps 3
         > place 3 c.png
         wants-list
         unfinished
         no-more-lists
         wants-no-list
         > discard 7, refuse 2 NotReceived, rename 1 a.png a-0000000000000001.png, place 4 a.png
         finished
         all-failures 1
         replaced 0
         keeps 8
         wants-list
         no-more-lists
         > discard 8
         finished"
    }

    fn r8_where_files_keep_their_names_those_made_from_an_id_get_their_own() {
        "# Case 3: images that were stored under their ID.
         new any-names
         folder 0000000000000001.jpg=1 b-0000000000000002.png=2 c-0000000000000003-4.png=3 mine.png=4 5-000.png=5
         list a.png=1 b.png=2 c.png=3 d.png=4 e.png=5
         > rename 1 0000000000000001.jpg a.png, rename 2 b-0000000000000002.png b.png
         > rename 3 c-0000000000000003-4.png c.png
         # A second file with a name of the user's is enough.
         new any-names
         folder 0000000000000001.jpg=1 mine.png=1
         list a.png=1
         > nothing
         # The name is not free.
         new any-names
         folder 0000000000000001.jpg=1 a.png=2
         list a.png=1 b.png=2
         > refuse 1 NameTaken
         misnamed 1
         gone a.png
         > rename 1 0000000000000001.jpg a.png, fetch 2, place 2 b.png
         misnamed 0
         # One in the way gets its own.
         new any-names
         folder a.png=2 0000000000000002-2.png=9
         list a.png=1 b.png=2
         > fetch 1, rename 2 a.png b.png, place 1 a.png"
    }

    fn r8_a_later_scan_that_does_not_read_files_fetches_nothing_again() {
        "new fetch-all
         folder
         list a.png=1 b.png=2
         > fetch 1, place 1 a.png, fetch 2, place 2 b.png
         folder a.png=unread
         > fetch 2, place 2 b.png"
    }
}

#[test]
fn r8_a_request_for_everything_names_all_that_is_neither_wanted_nor_requested() {
    let planner = play(
        "folder x.png=2
         list a.png=1 b.png=2 c.png=3 d.png=4
         have 2
         wanted 3
         request everything 3
         wanted 0
         requested 3
         have 2
         request nothing
         request everything 0
         keeps 3
         requested 2
         have 2 3
         fails all NotSent
         wants-list
         list a.png=1 b.png=2 c.png=3 d.png=4
         request everything 2
         fails all Final
         unfetched 2
         have 1 2 3 4
         retry
         have 2 3",
    );
    assert_eq!(planner.name(ImageId(4)).unwrap().as_str(), "d.png");
    assert_eq!(
        (planner.name(ImageId(5)), planner.length(ImageId(5))),
        (None, None)
    );
}

#[test]
fn r8_an_unread_file_with_a_listed_image_is_replaced_only_when_that_is_safe() {
    let mut planner = play(
        "new fetch-all
         folder a.png=unread
         list a.png=1 b.png=2
         request everything 2
         keeps 1
         begins replace 1 a.png Unread",
    );
    let one = ImageId(1);
    // The same image, one that no LIST names, and one that nobody can read.
    for content in [Some(one), Some(ImageId(9)), None] {
        assert!(planner.may_replace_unread(one, content), "{content:?}");
    }
    assert!(!planner.may_replace_unread(one, Some(ImageId(2))));
    go_on(
        &mut planner,
        "found a.png=2
         stale 1
         > rename 2 a.png b.png, place 1 a.png
         fails 2 Final
         > refuse 2 CannotFetch
         finished",
    );

    let planner = play("new fetch-all keep-existing\nfolder a.png=unread\nlist a.png=1");
    assert!(planner.may_replace_unread(one, Some(one)));
    assert!(!planner.may_replace_unread(one, Some(ImageId(9))));
    assert!(!planner.may_replace_unread(one, None));
}

#[test]
fn r5_a_long_name_with_a_number_keeps_the_id() {
    let long = "é".repeat(100);
    let id = ImageId(1);
    let short = "é".repeat(50);
    play(&format!(
        "folder {long}.png=other {long}-{id}.png=other
         list {long}.png=1
         > fetch 1, place 1 {short}-{id}-1.png, refuse 1 NameTaken
         finished"
    ));
}
