//! Changes that a user makes in the folder while it is brought in step.

use jtp_kit::Folder;
use jtp_sync::SyncEvent;

use super::job::Job;
use super::log::Event;
use super::world::World;
use crate::support::bytes::TestImage;
use crate::support::files::noise;
use crate::support::stub::Stub;

/// The planner expects an image under `a.png` that the server does not list any more, and plans to replace it.
#[test]
fn r8_only_copy_that_takes_the_place_of_a_file_to_be_replaced_is_not_replaced() {
    let kept = TestImage::new("c.png", noise(300, 1));
    let listed = vec![TestImage::new("a.png", noise(300, 2)), kept.clone()];
    for world in World::ALL {
        let stub = Stub::of(listed.clone());
        let replaced = TestImage::new("a.png", noise(300, 3));
        let job = Job::of(stub.address).holding([&replaced, &kept]);
        let folder = job.folder.clone();
        let job = job.reaction(move |event| {
            // After the plan was made, and before the image is placed.
            if matches!(event, SyncEvent::Started { .. }) {
                folder.rename("c.png", "a.png");
            }
        });
        job.run_ok(world);
        let copies = job.files().iter().filter(|file| file.id == kept.id).count();
        let fetched = |event: &Event| matches!(event, Event::Started(id) if *id == kept.id);
        let fetched = job.log.count(fetched);
        assert_eq!((copies, fetched), (1, 0), "{:?}\n{}", job.files(), job.log);
    }
}
