//! Tests of the writer threads.

use std::time::Duration;

use clap::Parser;
use jtp_core::{FileType, Flags, ImageId};
use jtp_store::OutputFolder;
use jtp_tokio::ShutdownSignal;

use super::*;
use crate::client_args::ClientArgs;
use crate::exit::Exit;
use crate::progress::{Progress, Style};

fn fetch_state() -> (tempfile::TempDir, Arc<FetchState>) {
    let dir = tempfile::tempdir().unwrap();
    let folder = OutputFolder::open(dir.path().join("out")).unwrap();
    let args = ClientArgs::parse_from(["client"]);
    let progress = Progress::new(Style::Quiet);
    let fetch = FetchState::new(&args, folder, progress, &ShutdownSignal::new());
    (dir, Arc::new(fetch))
}

fn image(id: ImageId, length: usize) -> Image {
    let flags = Flags::new(FileType::Png, false);
    let length = length.try_into().unwrap();
    Image::new(id, flags, length)
}

/// The names in the output folder, except that of the lock file.
fn names(fetch: &FetchState) -> Vec<String> {
    let entries = std::fs::read_dir(fetch.folder.path()).unwrap();
    let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    names
}

fn file_name(id: ImageId) -> String {
    format!("{id}.png")
}

async fn put(
    writer: &mut ImageWriter,
    fetch: &Arc<FetchState>,
    id: ImageId,
    bytes: &[u8],
) -> Result<(), WriterFailed> {
    writer.begin(image(id, bytes.len())).await?;
    for chunk in bytes.chunks(100_000) {
        writer.append(chunk);
        writer.flush_if_full().await?;
    }
    writer.end(ImageProgress::new(fetch, id));
    Ok(())
}

/// Runs a test with a timeout.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let test = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    runtime.block_on(test).expect("the test timed out");
}

#[test]
fn drain_stores_all_large_images_and_returns_all_batches() {
    run(async {
        let (_dir, fetch) = fetch_state();
        let mut writer = ImageWriter::with_limits(&fetch, 3, 4);
        let mut expected = Vec::new();
        for n in 0..12u8 {
            let bytes = vec![n; 1_000_000 + usize::from(n)];
            let id = ImageId::of(&bytes);
            put(&mut writer, &fetch, id, &bytes).await.unwrap();
            expected.push(file_name(id));
        }
        writer.drain().await.unwrap();
        expected.sort();
        assert_eq!(names(&fetch), expected);
        let free = std::iter::from_fn(|| writer.free_batches.try_recv().ok()).count();
        assert_eq!(free, 3, "the number of batches changed");
        writer.finish().await.unwrap();
    });
}

#[test]
fn large_images_are_distributed_to_idle_threads() {
    run(async {
        let (_dir, fetch) = fetch_state();
        let mut writer = ImageWriter::with_limits(&fetch, 3, 40);
        // While the names are locked, no thread can finish an image.
        let (locked, is_locked) = std::sync::mpsc::channel();
        let (unlock, wait) = std::sync::mpsc::channel::<()>();
        let state = Arc::clone(&fetch);
        let locker = thread::spawn(move || {
            let _names = state.names.write().unwrap();
            locked.send(()).unwrap();
            wait.recv().unwrap();
        });
        is_locked.recv().unwrap();
        for n in 0..5u8 {
            let bytes = vec![n; 1_000_000];
            put(&mut writer, &fetch, ImageId::of(&bytes), &bytes)
                .await
                .unwrap();
            assert_eq!(writer.threads.len(), usize::from(n + 1).min(3));
        }
        unlock.send(()).unwrap();
        locker.join().unwrap();
        writer.finish().await.unwrap();
        assert_eq!(names(&fetch).len(), 5);
    });
}

#[test]
fn r2_a_broken_image_is_requested_once_more_then_fails() {
    run(async {
        let (_dir, fetch) = fetch_state();
        let mut writer = ImageWriter::with_limits(&fetch, 1, 4);
        put(&mut writer, &fetch, ImageId(7), b"others")
            .await
            .unwrap();
        assert_eq!(fetch.take_retries(&mut writer).await, [ImageId(7)]);
        assert_eq!(fetch.progress.exit(), Exit::Success);
        put(&mut writer, &fetch, ImageId(7), b"others")
            .await
            .unwrap();
        assert_eq!(fetch.take_retries(&mut writer).await, []);
        assert_eq!(fetch.progress.exit(), Exit::SomeFailed);
        writer.finish().await.unwrap();
        assert_eq!(names(&fetch), [""; 0]);
    });
}

#[test]
fn discarded_and_incomplete_images_leave_no_files() {
    run(async {
        for discarded in [true, false] {
            let (_dir, fetch) = fetch_state();
            let mut writer = ImageWriter::with_limits(&fetch, 2, 4);
            writer.begin(image(ImageId(7), 2_000_000)).await.unwrap();
            for _ in 0..10 {
                writer.append(&[1; 100_000]);
                writer.flush_if_full().await.unwrap();
            }
            writer.drain().await.unwrap();
            assert_eq!(names(&fetch).len(), 1, "a temporary file");
            if discarded {
                writer.discard();
                writer.drain().await.unwrap();
                assert_eq!(names(&fetch), [""; 0]);
            }
            writer.finish().await.unwrap();
            assert_eq!(names(&fetch), [""; 0]);
        }
    });
}

#[test]
fn a_thread_that_ends_early_ends_all_waits() {
    run(async {
        // The thread fails because the folder was removed.
        let (_dir, fetch) = fetch_state();
        let mut writer = ImageWriter::with_limits(&fetch, 2, 4);
        std::fs::remove_dir_all(fetch.folder.path()).unwrap();
        let bytes = vec![1; 10_000_000];
        let id = ImageId::of(&bytes);
        let put = put(&mut writer, &fetch, id, &bytes).await;
        assert!(put.is_err() || writer.drain().await.is_err());
        assert_eq!(writer.finish().await.unwrap_err().exit, Exit::Disk);
    });
    run(async {
        // The thread panics because a step refers to more bytes than the batch has.
        let (_dir, fetch) = fetch_state();
        let mut writer = ImageWriter::with_limits(&fetch, 1, 4);
        writer.batch.steps.push(Step::Bytes(1));
        writer.drain().await.unwrap_err();
        writer.send_when_idle().await.unwrap_err();
        let failure = writer.finish().await.unwrap_err();
        assert_eq!(failure.exit, Exit::Other);
        assert!(failure.message.contains("panicked"), "{failure}");
    });
}
