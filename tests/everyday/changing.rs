//! R8 (d): a picture that a camera rewrites all the time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;

/// Rewrites `cam.jpg`, which sorts before all other images, some 16 times a second until this is dropped.
struct Camera {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    InPlace,
    ByRename,
}

/// The picture of the camera after `n` rewrites.
fn frame(n: u64) -> Vec<u8> {
    noise(200_000 + usize::try_from(n % 5).unwrap() * 1_000, 1_000 + n)
}

impl Camera {
    fn start(workdir: &WorkDir, writing: Writing) -> Camera {
        let (written, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, stopped) = (Arc::clone(&written), Arc::clone(&stop));
        let (file, aside) = (
            workdir.images().join("cam.jpg"),
            workdir.path().join("frame"),
        );
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let n = count.load(Ordering::Relaxed) + 1;
                match writing {
                    Writing::InPlace => fs::write(&file, frame(n)).unwrap(),
                    Writing::ByRename => {
                        fs::write(&aside, frame(n)).unwrap();
                        fs::rename(&aside, &file).unwrap();
                    }
                }
                count.store(n, Ordering::Release);
                // The rate of the camera.
                thread::sleep(Duration::from_millis(60));
            }
        });
        let camera = Camera {
            written,
            stop,
            thread: Some(thread),
        };
        wait_until("the camera writes", || camera.count() >= 3);
        camera
    }

    fn count(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Ends the rewriting; returns the last frame's number.
    fn stop(mut self) -> u64 {
        self.end();
        self.count()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.end();
    }
}

fn library() -> WorkDir {
    let workdir = WorkDir::of(&[]);
    workdir.add("cam.jpg", &frame(0));
    for n in 0..8 {
        workdir.add(&format!("other-{n}.png"), &picture(n));
    }
    workdir
}

/// The images other than the camera's.
fn others(folder: &Path) -> BTreeMap<String, u64> {
    let mut files = files(folder);
    files.remove("cam.jpg");
    files
}

#[track_caller]
fn other_images_arrive(writing: Writing, args: &[&str]) {
    let workdir = library();
    let server = workdir.server("--no-tls");
    let camera = Camera::start(&workdir, writing);
    let output = run(&workdir, server.addr(), args);
    let what = format!("{writing:?} {args:?}: {output:?}");
    assert_eq!(
        others(&workdir.output()),
        others(&workdir.images()),
        "{what}"
    );
    // Its frame was fetched, has gone meanwhile, or has failed alone.
    match output.code {
        Some(0) => assert!(output.out.contains("; 0 failed"), "{what}"),
        Some(3) => {
            assert!(output.err.contains("failed: cam.jpg"), "{what}");
            assert!(output.out.contains("; 1 failed"), "{what}");
        }
        _ => panic!("{what}"),
    }
    if writing == Writing::ByRename {
        let frames: HashSet<u64> = (0..=camera.count() + 1).map(|n| id_of(&frame(n))).collect();
        let fetched = files(&workdir.output()).remove("cam.jpg");
        assert!(fetched.is_none_or(|id| frames.contains(&id)), "{what}");
    }
    // Once the camera is off, its last frame comes too.
    camera.stop();
    await_listed(&workdir, &server);
    run(&workdir, server.addr(), "--batch").assert_exit(0);
    assert_complete(&workdir);
}

#[test]
fn r8_an_image_rewritten_in_place_keeps_no_other_from_coming_in_a_plain_run() {
    other_images_arrive(Writing::InPlace, &[]);
}

#[test]
fn r8_an_image_rewritten_in_place_keeps_no_other_from_coming_with_batch() {
    other_images_arrive(Writing::InPlace, &["--batch"]);
}

#[test]
fn r8_an_image_rewritten_in_place_keeps_no_other_from_coming_with_keep_alive() {
    other_images_arrive(Writing::InPlace, &["-k"]);
}

#[test]
fn r8_an_image_rewritten_in_place_keeps_no_other_from_coming_over_four_connections() {
    other_images_arrive(Writing::InPlace, &["-p", "4"]);
}

#[test]
fn r8_an_image_replaced_again_and_again_keeps_no_other_from_coming_in_a_plain_run() {
    other_images_arrive(Writing::ByRename, &[]);
}

#[test]
fn r8_an_image_replaced_again_and_again_keeps_no_other_from_coming_with_batch() {
    other_images_arrive(Writing::ByRename, &["--batch"]);
}

#[test]
fn r8_an_image_replaced_again_and_again_keeps_no_other_from_coming_with_keep_alive() {
    other_images_arrive(Writing::ByRename, &["-k"]);
}

#[test]
fn r8_an_image_replaced_again_and_again_keeps_no_other_from_coming_over_four_connections() {
    other_images_arrive(Writing::ByRename, &["-p", "4"]);
}

#[test]
fn r8_watch_goes_on_while_an_image_changes_all_the_time() {
    for writing in [Writing::InPlace, Writing::ByRename] {
        let workdir = library();
        let server = workdir.server("--no-tls");
        let camera = Camera::start(&workdir, writing);
        let mut client = start_client(&workdir, server.addr(), "--watch");
        client.wait_for("watching");
        workdir.add("later.png", &picture(50));
        let arrived = within(|| others(&workdir.output()) == others(&workdir.images()));
        assert!(arrived, "{writing:?}{}", client.printed());
        assert!(!client.has_ended(), "{writing:?}{}", client.printed());
        // The last frame comes, and the image before it was its only predecessor in the folder.
        let last = id_of(&frame(camera.stop()));
        let arrived = within(|| files(&workdir.output()).get("cam.jpg") == Some(&last));
        assert!(arrived, "{writing:?}{}", client.printed());
        interrupt(client);
        assert_complete(&workdir);
        assert_nothing_to_do(&workdir, &server);
    }
}
