//! Which images are fetched. // R8

use jtp_core::{FileType, ImageId};
use jtp_sync::{Fetch, Options, Selection};

use super::job::Job;
use super::world::World;
use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::stub::{Request, Stub};

fn named(names: &[&str]) -> Vec<TestImage> {
    let image = |(n, name): (usize, &&str)| TestImage::new(name, noise(300 + n, n as u64));
    names.iter().enumerate().map(image).collect()
}

fn only(images: &[TestImage], wanted: impl Fn(&TestImage) -> bool) -> Vec<TestImage> {
    images
        .iter()
        .filter(|image| wanted(image))
        .cloned()
        .collect()
}

#[test]
fn r8_only_selected_images_are_requested_and_none_in_bulk() {
    let images = named(&["a.png", "b.jpg", "c.png", "d.gif", "e.png", "f.bmp"]);
    type IsWanted = fn(&TestImage) -> bool;
    let selections: [(Selection, IsWanted); 4] = [
        (Selection::all().include("*.png").unwrap(), |i| i.kind == 0),
        (Selection::all().exclude("*.png").unwrap(), |i| i.kind != 0),
        (
            Selection::all().types([FileType::Jpeg, FileType::Gif]),
            |i| i.kind == 1 || i.kind == 4,
        ),
        (
            Selection::all().ids([ImageId(images[4].id), ImageId(images[5].id)]),
            |i| i.name == "e.png" || i.name == "f.bmp",
        ),
    ];
    for (world, connections) in World::ALL.into_iter().zip([1, 1, 3, 1]) {
        for (selection, wanted) in &selections {
            for fetch in [Fetch::Missing, Fetch::All] {
                let stub = Stub::of(images.clone());
                let mut job = Job::of(stub.address);
                job.options = Options::new().with_fetch(fetch);
                job.selection = selection.clone();
                job.connections = connections;
                let totals = job.run_ok(world);
                let selected = only(&images, wanted);
                job.assert_files(&selected);
                assert_eq!(totals.left_out.images as usize, 6 - selected.len());
                let mut requested = Vec::new();
                for request in stub.requests() {
                    match request {
                        Request::List => {}
                        Request::Get(ids) => requested.extend(ids),
                        other => panic!("{other:?}"),
                    }
                }
                requested.sort_unstable();
                let mut ids: Vec<u64> = selected.iter().map(|image| image.id).collect();
                ids.sort_unstable();
                assert_eq!(requested, ids);
            }
        }
    }
}
