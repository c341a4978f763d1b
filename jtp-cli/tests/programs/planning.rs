//! `--dry-run` and `--check`: they change nothing, and say what is so.

use std::fs;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::support::{Disk, FakeServer, Folder as _, TestDir, noise, stamps, wait_until};

#[test]
fn dry_run_prints_a_line_for_each_change_and_changes_nothing() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls --compression-threshold 0");
    let all = "fetch    a.png  1000\nfetch    b.jpg  2000\nfetch    c.bmp  200002\n";
    for args in ["--dry-run", "-n --batch", "-n --out deep/er"] {
        let output = dir.fetch(&server, args);
        output.assert_exit(0).assert_out(all);
        let summary = "dry run: would fetch 3 images (198.24 KiB); 0 already there\n";
        output.assert_err(summary);
    }
    assert!(!dir.path("output").exists() && !dir.path("deep").exists());

    dir.fetch(&server, "--batch");
    // On the server: a.png becomes z.png, and another image has its name.
    dir.rename("images/a.png", "images/z.png");
    server.stop();
    dir.add("a.png", &noise(500, 9));
    let server = dir.serve("--no-tls --compression-threshold 0");
    dir.write("output/b.jpg", "damaged");
    dir.write("output/.jtp-0123456789abcdef-0.part", "stale");
    let before = stamps(&dir.path("output"));
    let output = dir.fetch(&server, "-n --batch");
    let lines = "rename   a.png -> z.png\nfetch    a.png  500\nreplace  b.jpg  2000\n";
    output.assert_exit(0).assert_out(lines);
    output.assert_err("dry run: would fetch 2 images (2.44 KiB); 2 already there; 1 would replace a file; 1 would be renamed\n");
    // With -v also what stays, and with a filter what is left out.
    let output = dir.fetch(&server, "-n -v --batch --exclude b.*");
    let lines = "rename   a.png -> z.png\nfetch    a.png  500\nskip     b.jpg\nkeep     c.bmp\n";
    output.assert_out(lines);
    output.assert_in_err("; 1 left out by filter");
    let quiet = dir.fetch(&server, "-n -q --type bmp");
    assert_eq!((&*quiet.out, &*quiet.err), ("fetch    c.bmp  200002\n", ""));
    assert_eq!(stamps(&dir.path("output")), before);
    // The run does what the dry run said.
    dir.fetch(&server, "--batch").assert_success(
        "fetched 2 images (2.44 KiB); 2 already there; 0 failed; 1 replaced a file; 1 renamed",
    );
    assert_eq!(dir.files("output"), dir.files("images"));
    dir.fetch(&server, "-n --batch")
        .assert_out("")
        .assert_err("dry run: would fetch 0 images (0 B); 4 already there\n");
}

#[test]
fn a_renamed_file_that_replaces_another_is_announced_as_a_replacement() {
    let dir = TestDir::new();
    let image = noise(400, 1);
    dir.add("a.png", &image);
    let server = dir.serve("--no-tls");
    dir.make_dir("output");
    // The image has its ID in its name, and its own name has what the server no longer lists.
    let with_id = format!("a-{}.png", ImageId::of(&image));
    fs::write(dir.path("output").join(&with_id), &image).unwrap();
    dir.write("output/a.png", noise(400, 2));
    let output = dir.fetch(&server, "-n --batch");
    output.assert_out(&format!("replace  {with_id} -> a.png\n"));
    dir.fetch(&server, "--batch");
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn names_in_the_plan_are_harmless() {
    let dir = TestDir::new();
    let fake = FakeServer::with(&[("a\u{ad}\u{180e}.png", ImageId(1), 5)], &[]);
    for (flag, line) in [
        ("--dry-run", "fetch    a__.png  5\n"),
        ("--check", "missing  a__.png\n"),
    ] {
        fake.fetch(&dir, flag).assert_out(line);
        assert!(!dir.path("output").exists());
    }
}

#[test]
fn time_limit_ends_each_job_and_says_what_was_done() {
    let dir = TestDir::new();
    // Never answers.
    let fake = FakeServer::silent();
    for (flag, done) in [
        ("--dry-run", "were not compared"),
        ("--check", "were not compared"),
        ("--list", "had not listed all images"),
        ("--batch", "nothing was fetched from 127.0.0.1"),
    ] {
        fake.fetch(&dir, &[flag, "--max-time", "0.2"])
            .assert_failure(3, &["time limit", done, "--max-time"]);
    }
}

#[test]
fn ctrl_c_ends_a_dry_run_and_a_check() {
    for flag in ["--dry-run", "--check"] {
        let dir = TestDir::new();
        let asked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&asked);
        let fake = FakeServer::new(move |_, _, stream| {
            seen.store(true, Ordering::SeqCst);
            let _ = stream.read(&mut [0]);
        });
        let client = dir.client(&fake.addr(), &[flag]);
        wait_until("the request", || asked.load(Ordering::SeqCst));
        client.signal(Signal::INT);
        let output = client.wait();
        output.assert_exit(130).assert_out("");
        assert!(!dir.path("output").exists());
    }
}

#[test]
fn check_prints_the_differences_and_exits_with_0_or_3() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let output = dir.fetch(&server, "--check");
    output.assert_exit(3);
    output.assert_out("missing  a.png\nmissing  b.jpg\nmissing  c.bmp\n");
    assert!(!dir.path("output").exists());
    dir.fetch(&server, "");
    let before = stamps(&dir.path("output"));
    let output = dir.fetch(&server, "--check");
    output.assert_exit(0).assert_out("");
    output.assert_err("check: 3 images the same; 0 missing; 0 differ; 0 renamed; 0 extra\n");
    assert_eq!(stamps(&dir.path("output")), before, "no index was written");

    dir.rename("output/a.png", "output/x.png");
    dir.write("output/b.jpg", "damaged");
    dir.write("output/mine.png", "mine");
    dir.write("output/notes.txt", "no image");
    dir.add("new.gif", &noise(100, 7));
    let before = stamps(&dir.path("output"));
    let listed = || dir.fetch(&server, "--list").out.contains("new.gif");
    wait_until("the server lists the new image", listed);
    dir.fetch(&server, "--check")
        .assert_exit(3)
        .assert_out(
            "renamed  x.png -> a.png\ndiffers  b.jpg\nmissing  new.gif\nextra    mine.png\n",
        )
        .assert_err("check: 1 image the same; 1 missing; 1 differ; 1 renamed; 1 extra\n");
    // Only what is selected is compared, on both sides.
    for (args, code, lines) in [
        ("--type bmp", 0, ""),
        ("--exclude [bmx]* --exclude {a,new}.*", 0, ""),
        ("--include mine*", 3, "extra    mine.png\n"),
        ("--type gif -q", 3, "missing  new.gif\n"),
    ] {
        let output = dir.fetch(&server, &format!("--check {args}"));
        output.assert_exit(code).assert_out(lines);
        let is_counted = output.err.contains("left out by filter");
        assert_eq!(is_counted, !args.contains("-q"), "{output:?}");
    }
    assert_eq!(stamps(&dir.path("output")), before);
}

#[test]
fn a_file_that_cannot_be_read_is_a_difference_if_it_is_selected() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    dir.fetch(&server, "");
    // Longer than any image, so they are not read.
    for name in ["a.png", "mine.png"] {
        let long = fs::File::create(dir.path("output").join(name)).unwrap();
        long.set_len(1 << 40).unwrap();
    }
    let output = dir.fetch(&server, "--check");
    let lines = "unread   a.png\n";
    output.assert_exit(3).assert_out(lines);
    output.assert_in_err("warning: cannot read mine.png");
    assert!(
        output
            .err
            .ends_with("0 differ; 0 renamed; 0 extra; 2 cannot be read\n"),
        "{output:?}"
    );
    dir.fetch(&server, "--check --exclude [am]*")
        .assert_exit(0)
        .assert_out("");
}

#[test]
#[cfg(target_os = "linux")]
fn a_read_only_file_system_can_be_looked_at() {
    use rustix::mount::{MountFlags, mount_remount};
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let disk = dir.path("output");
    let Some(_disk) = Disk::mount(&disk, "1m") else {
        return;
    };
    fs::copy(dir.path("images/a.png"), disk.join("a.png")).unwrap();
    mount_remount(&disk, MountFlags::RDONLY, c"").unwrap();
    let planned = dir.fetch(&server, "-n --batch");
    let checked = dir.fetch(&server, "--check");
    planned.assert_exit(0);
    assert_eq!(planned.out.lines().count(), 2, "{planned:?}");
    checked.assert_exit(3);
    checked.assert_out("missing  b.jpg\nmissing  c.bmp\n");
}
