//! Images of which the folder has two files while a step uses the name of one of them.

use jtp_core::ImageId;
use jtp_sync::{FileKind, Options, Outcome, Received, Step};

use crate::cases::{planner, steps};

#[test]
fn r8_an_image_waits_while_a_step_uses_the_name_of_the_other_copy_of_the_file_in_its_way() {
    let mut planner = planner(
        Options::new(),
        &[("a.png", 2), ("b.png", 3)],
        &[("a.png", 1), ("b.png", 2), ("c.png", 3)],
    );
    let rename = planner.next_move();
    assert!(
        matches!(&rename, Some(Step::Rename { id: ImageId(3), from, .. }) if from == "b.png"),
        "{rename:?}"
    );
    let fetch = planner.next_fetch();
    assert_eq!(fetch.map(|(id, _)| id), Some(ImageId(1)));
    assert_eq!(planner.fetched(ImageId(1)), Received::Keep);
    // Before the step is carried out, another client has made the same changes, of which this one sees the last first.
    planner.file_found("b.png", FileKind::Image(ImageId(2)));
    assert_eq!(planner.next_move(), None);
    planner.file_found("c.png", FileKind::Image(ImageId(3)));
    assert_eq!(planner.next_move(), None);
    planner.report(ImageId(3), Outcome::Stale);
    assert_eq!(
        steps(&mut planner),
        ["replace 1 a.png Copy { id: ImageId(0000000000000002), other: \"b.png\" }"]
    );
    assert!(planner.is_finished());
}
