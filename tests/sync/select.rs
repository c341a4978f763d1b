//! Which images are fetched. // R8

use std::fs;
use std::time::Duration;

use jtp_core::{FileType, ImageId};
use jtp_sync::{Error, Fetch, Options, Selection};
use jtp_tokio::store::MemoryStore;

use super::job::{Job, target};
use super::log::Event;
use super::stub::{Request, Stub, images, insert};
use super::world::World;
use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::serve::TestServer;

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

#[test]
fn ids_that_the_server_does_not_list_are_reported_once() {
    let images = images(3);
    let stub = Stub::of(images.clone());
    let mut job = Job::of(stub.address);
    job.selection = Selection::all().ids([ImageId(images[1].id), ImageId(9), ImageId(8)]);
    job.run_ok(World::Smol);
    job.assert_files(&images[1..2]);
    let not_listed: Vec<u64> = job
        .log
        .lock()
        .iter()
        .filter_map(|event| match event {
            Event::NotListed(id) => Some(*id),
            _ => None,
        })
        .collect();
    assert_eq!(not_listed, [8, 9]);
}

#[test]
fn limits_of_the_job_count_selected_images_only() {
    let images = named(&["a.png", "b.jpg", "c.jpg", "d.jpg"]);
    let stub = Stub::of(images.clone());
    let length = |image: &TestImage| image.bytes.len() as u64;
    let (_parent, folder) = target();
    let mut job = Job::new(stub.address, &folder);
    job.selection = Selection::all().include("*.png").unwrap();
    job.max_total_size = Some(length(&images[0]));
    job.max_time = Some(Duration::from_secs(60));
    job.run_ok(World::Tokio);
    job.assert_files(&images[..1]);
    // One byte less.
    let mut job = Job::of(stub.address);
    job.selection = Selection::all().include("*.png").unwrap();
    job.max_total_size = Some(length(&images[0]) - 1);
    let error = job.run(World::Tokio).unwrap_err();
    assert!(matches!(error, Error::SizeLimit { .. }), "{error:?}");
    job.assert_files(&[]);
}

#[test]
fn n5_a_follower_fetches_new_images_only_if_they_are_selected() {
    for world in World::ALL {
        let first = named(&["a.png", "b.jpg"]);
        let later = named(&["x0", "x1", "c.jpg", "d.png", "e.jpg", "f.png"]).split_off(2);
        let server = TestServer::store(MemoryStore::new(), |server| server);
        insert(&server.store, &first);
        let mut job = Job::of(server.address).accelerated(50);
        job.selection = Selection::all().include("*.png").unwrap();
        let following = job.follow(world);
        job.log
            .wait_for(1, "watching", |e| matches!(e, Event::Watching));
        job.log
            .wait_for(1, "placed", |e| matches!(e, Event::Placed { .. }));
        insert(&server.store, &later);
        job.log
            .wait_for(3, "placed", |e| matches!(e, Event::Placed { .. }));
        // The LIST that follows the events changes nothing.
        job.log
            .wait_for(2, "lists", |e| matches!(e, Event::Listed { .. }));
        following.cancel();
        let all = [first, later].concat();
        job.assert_files(&only(&all, |image| image.kind == 0));
    }
}
