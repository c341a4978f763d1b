//! Images that the caller leaves out, and the comparison of folder and server.

use jtp_sync::Difference;

use crate::script::{play, scripts};

scripts! {
    fn r8_an_image_that_is_selected_later_is_fetched() {
        "folder
         list !a.png=1
         > nothing
         finished
         list b.png=1
         > fetch 1, place 1 b.png
         event !c.png=2
         > nothing
         event d.png=2
         > fetch 2, place 2 d.png
         left-out 0
         planned 2"
    }

    fn r5_names_are_the_same_whatever_is_left_out() {
        "folder
         list a.png=1 !A.png=2
         > fetch 1, place 1 a-0000000000000001.png"
    }
}

#[test]
fn r8_a_file_of_a_left_out_image_blocks_its_name_for_others() {
    let own = "a-0000000000000001.png";
    for files in ["a.png=2", "a.png=2 z.png=2"] {
        let begin = format!("folder {files} {own}=1\nlist a.png=1 !b.png=2");
        play(&format!(
            "{begin}
             > refuse 1 NameTaken
             new any-names
             {begin}
             > refuse 1 NameTaken
             new fetch-all
             {begin}
             > fetch 1, replace 1 {own} image 1, refuse 1 NameTaken"
        ));
    }
}

#[test]
fn r8_an_image_that_is_left_out_later_is_dropped_at_each_stage() {
    let out = "list !a.png=1";
    let (wanted, listed) = (
        "folder\nlist a.png=1",
        "folder x.png=1\nlist a.png=1\nbegins rename 1 x.png a.png",
    );
    let arrived = format!("{wanted}\nrequest 1\nkeeps 1");
    let placed = format!("{arrived}\nbegins place 1 a.png");
    // Wanted, requested, in hand, being placed, being renamed.
    for (before, after) in [
        (wanted, "planned 0\n> nothing"),
        (
            &format!("{wanted}\nrequest 1"),
            "requested 0\ndiscards 1\n> nothing",
        ),
        (&arrived, "> discard 1"),
        (&placed, "outdated 1\ndone 1\n> nothing"),
        (&placed, "outdated 1\nstale 1\n> discard 1"),
        (&placed, "outdated 1\nfailed 1\n> discard 1"),
        (listed, "outdated 1\ndone 1\n> nothing"),
        (listed, "outdated 1\nstale 1\n> nothing"),
        (listed, "outdated 1\nfailed 1\n> nothing"),
    ] {
        play(&format!("{before}\n{out}\n{after}\nfinished\nleft-out 1"));
    }
}

#[test]
fn differences_between_folder_and_server_are_found() {
    // The file x.png has the name of one image, and the content of another.
    let planner = play(
        "folder same.png=1 copy.png=1 old.png=2 differs.png=90 unread.png=unread folder.png=reserved \
             left-out.png=92 notes.txt=other b-extra.png=91 left.png=8 x.png=10
         list same.png=1 new.png=2 missing.png=3 differs.png=4 unread.png=5 folder.png=6 \
             !left-out.png=7 !moved.png=8 x.png=9 y.png=10",
    );
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
        "renamed 2 old.png > new.png",
        "missing 3 missing.png",
        "differs 4 differs.png",
        "unreadable 5 unread.png",
        "differs 6 folder.png",
        "differs 9 x.png",
        "renamed 10 x.png > y.png",
        "extra 91 b-extra.png",
        "extra 92 left-out.png",
    ];
    assert_eq!((same, found), (1, expected.map(str::to_owned).to_vec()));
}
