//! Which images are fetched. // R8

use std::fs;

use jtp_core::{FileType, ImageId};
use jtp_sync::{Fetch, Options, Selection};

use super::job::{Job, target};
use super::stub::{Request, Stub};
use super::world::World;
use crate::support::bytes::*;
use crate::support::files::noise;

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

#[test]
fn r8_files_whose_images_are_left_out_stay_as_they_are() {
    let images = named(&["a.png", "b.jpg", "c.png"]);
    let stub = Stub::of(images.clone());
    for fetch in [Fetch::Missing, Fetch::All] {
        let (_parent, folder) = target();
        fs::create_dir(&folder).unwrap();
        // The left-out b.jpg has the name of a.png and another one.
        fs::write(folder.join("a.png"), &images[1].bytes).unwrap();
        fs::write(folder.join("z.jpg"), &images[1].bytes).unwrap();
        let mut job = Job::new(stub.address, &folder);
        job.options = Options::new().with_fetch(fetch);
        job.selection = Selection::all().types([FileType::Png]);
        let totals = job.run_ok(World::Tokio);
        let suffixed = format!("a-{}.png", ImageId(images[0].id));
        let expected = [
            TestImage::new("a.png", images[1].bytes.clone()),
            TestImage::new("z.jpg", images[1].bytes.clone()),
            TestImage::new(&suffixed, images[0].bytes.clone()),
            images[2].clone(),
        ];
        job.assert_files(&expected);
        assert_eq!((totals.renamed.images, totals.replaced.images), (0, 0));
        // With everything selected, the names are put right.
        job.selection = Selection::all();
        job.options = Options::new();
        job.log.lock().clear();
        let totals = job.run_ok(World::Tokio);
        assert_eq!(totals.fetched.images, 0);
        let names: Vec<_> = job
            .files()
            .into_iter()
            .map(|image| (image.name, image.id))
            .collect();
        for image in &images {
            assert!(names.contains(&(image.name.clone(), image.id)), "{names:?}");
        }
    }
}
