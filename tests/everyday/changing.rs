//! R8 (d): a picture that a camera rewrites all the time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;

/// Rewrites `cam.jpg`, which sorts before all other images, some 16 times a second until this is dropped.
struct Camera {
    written: Arc<AtomicU64>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
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
        let written = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&written);
        let (stop, stopped) = mpsc::channel();
        let file = workdir.images().join("cam.jpg");
        let aside = workdir.path().join("frame");
        let thread = thread::spawn(move || {
            // The rate of the camera.
            let pause = Duration::from_millis(60);
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let n = count.load(Ordering::Relaxed) + 1;
                match writing {
                    Writing::InPlace => fs::write(&file, frame(n)).unwrap(),
                    Writing::ByRename => {
                        fs::write(&aside, frame(n)).unwrap();
                        fs::rename(&aside, &file).unwrap();
                    }
                }
                count.store(n, Ordering::Release);
            }
        });
        let camera = Camera {
            written,
            stop,
            thread,
        };
        wait_until("the camera writes", || camera.count() >= 3);
        camera
    }

    fn count(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Ends the rewriting; returns the last frame's number.
    fn stop(self) -> u64 {
        drop(self.stop);
        self.thread.join().unwrap();
        self.written.load(Ordering::Acquire)
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

const MODES: [&str; 4] = ["", "--batch", "-k", "-p 4"];

#[track_caller]
fn other_images_arrive(writing: Writing, args: &str) {
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
fn r8_an_image_rewritten_in_place_keeps_no_other_from_coming() {
    for args in MODES {
        other_images_arrive(Writing::InPlace, args);
    }
}

#[test]
fn r8_an_image_replaced_again_and_again_keeps_no_other_from_coming() {
    for args in MODES {
        other_images_arrive(Writing::ByRename, args);
    }
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
