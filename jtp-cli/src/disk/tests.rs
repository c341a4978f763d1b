//! The threads that make files.

use std::time::Duration;

use clap::Parser;
use jtp_core::{FileType, Flags, ImageId};
use jtp_store::OutputFolder;

use super::*;
use crate::client_args::ClientArgs;
use crate::exit::Exit;
use crate::progress::{Progress, Style};
use crate::signals::Stop;

fn fetch() -> (tempfile::TempDir, Arc<Fetch>) {
    let place = tempfile::tempdir().unwrap();
    let folder = OutputFolder::open(place.path().join("out")).unwrap();
    let args = ClientArgs::parse_from(["client"]);
    let progress = Progress::new(Style::Quiet);
    let fetch = Fetch::new(&args, folder, progress, &Stop::by_hand().1);
    (place, Arc::new(fetch))
}

fn image(id: ImageId, length: usize) -> Image {
    let flags = Flags::new(FileType::Png, false);
    let length = length.try_into().unwrap();
    Image::new(id, flags, length)
}

fn names(fetch: &Fetch) -> Vec<String> {
    let entries = std::fs::read_dir(fetch.folder.path()).unwrap();
    let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn name(id: ImageId) -> String {
    format!("{id}.png")
}

async fn put(disk: &mut Disk, fetch: &Arc<Fetch>, id: ImageId, bytes: &[u8]) -> Result<(), Gone> {
    disk.begin(image(id, bytes.len())).await?;
    for chunk in bytes.chunks(100_000) {
        disk.append(chunk);
        disk.make_room().await?;
    }
    disk.end(Told::new(fetch, id));
    Ok(())
}

/// Nothing here takes that long: a wait that does has no end.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let test = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    runtime.block_on(test).expect("an end");
}

#[test]
fn large_images_are_all_there_when_it_is_settled_and_no_batch_is_lost() {
    run(async {
        let (_place, fetch) = fetch();
        let mut disk = Disk::with(&fetch, 3, 4);
        let mut due = Vec::new();
        for n in 0..12u8 {
            let bytes = vec![n; 1_000_000 + usize::from(n)];
            let id = ImageId::of(&bytes);
            put(&mut disk, &fetch, id, &bytes).await.unwrap();
            due.push(name(id));
        }
        disk.settle().await.unwrap();
        due.sort();
        assert_eq!(names(&fetch), due);
        let spare = std::iter::from_fn(|| disk.spare.try_recv().ok()).count();
        assert_eq!(spare, 3, "no batch is lost, and none was added");
        disk.finish().await.unwrap();
    });
}

#[test]
fn a_large_image_goes_to_a_thread_that_has_nothing_else_to_do() {
    run(async {
        let (_place, fetch) = fetch();
        let mut disk = Disk::with(&fetch, 3, 40);
        // As long as nobody can learn a name, no image is ended.
        let (held, is_held) = std::sync::mpsc::channel();
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let names_of = Arc::clone(&fetch);
        let holder = thread::spawn(move || {
            let _names = names_of.names.write().unwrap();
            held.send(()).unwrap();
            wait.recv().unwrap();
        });
        is_held.recv().unwrap();
        for n in 0..5u8 {
            let bytes = vec![n; 1_000_000];
            put(&mut disk, &fetch, ImageId::of(&bytes), &bytes)
                .await
                .unwrap();
            assert_eq!(disk.makers.len(), usize::from(n + 1).min(3));
        }
        go_on.send(()).unwrap();
        holder.join().unwrap();
        disk.finish().await.unwrap();
        assert_eq!(names(&fetch).len(), 5);
    });
}

#[test]
fn r2_a_broken_image_is_asked_for_once_more_and_then_has_failed() {
    run(async {
        let (_place, fetch) = fetch();
        let mut disk = Disk::with(&fetch, 1, 4);
        put(&mut disk, &fetch, ImageId(7), b"others").await.unwrap();
        assert_eq!(fetch.again(&mut disk).await, [ImageId(7)]);
        assert_eq!(fetch.progress.exit(), Exit::Success);
        put(&mut disk, &fetch, ImageId(7), b"others").await.unwrap();
        assert_eq!(fetch.again(&mut disk).await, []);
        assert_eq!(fetch.progress.exit(), Exit::SomeFailed);
        disk.finish().await.unwrap();
        assert_eq!(names(&fetch), [""; 0]);
    });
}

#[test]
fn what_is_given_up_or_not_whole_leaves_nothing() {
    run(async {
        for given_up in [true, false] {
            let (_place, fetch) = fetch();
            let mut disk = Disk::with(&fetch, 2, 4);
            disk.begin(image(ImageId(7), 2_000_000)).await.unwrap();
            for _ in 0..10 {
                disk.append(&[1; 100_000]);
                disk.make_room().await.unwrap();
            }
            disk.settle().await.unwrap();
            assert_eq!(names(&fetch).len(), 1, "a temporary");
            if given_up {
                disk.give_up();
                disk.settle().await.unwrap();
                assert_eq!(names(&fetch), [""; 0]);
            }
            disk.finish().await.unwrap();
            assert_eq!(names(&fetch), [""; 0]);
        }
    });
}

#[test]
fn a_thread_that_ends_early_ends_every_wait() {
    run(async {
        // The folder is gone.
        let (_place, fetch) = fetch();
        let mut disk = Disk::with(&fetch, 2, 4);
        std::fs::remove_dir_all(fetch.folder.path()).unwrap();
        let bytes = vec![1; 10_000_000];
        let id = ImageId::of(&bytes);
        let put = put(&mut disk, &fetch, id, &bytes).await;
        assert!(put.is_err() || disk.settle().await.is_err());
        assert_eq!(disk.finish().await.unwrap_err().exit, Exit::Disk);
    });
    run(async {
        // It panics: there are fewer bytes than it is told.
        let (_place, fetch) = fetch();
        let mut disk = Disk::with(&fetch, 1, 4);
        disk.batch.steps.push(Step::Bytes(1));
        disk.settle().await.unwrap_err();
        disk.hand_over().await.unwrap_err();
        let failure = disk.finish().await.unwrap_err();
        assert_eq!(failure.exit, Exit::Other);
        assert!(failure.message.contains("failed"), "{failure}");
    });
}
