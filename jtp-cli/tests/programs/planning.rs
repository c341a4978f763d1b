//! `--dry-run` and `--check`: they change nothing, and say what is so.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jtp_core::ImageId;
use jtp_kit::{Rng, for_each_seed};
use rustix::process::Signal;

use crate::support::{CLIENT, Disk, FakeServer, Folder as _, TestDir, noise, wait_until};

/// Everything that can be seen of a folder, but for access times.
fn tree(folder: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    let Ok(metadata) = fs::symlink_metadata(folder) else {
        return seen;
    };
    let content = match metadata.is_file() {
        true => ImageId::of(&fs::read(folder).unwrap()),
        false => ImageId(0),
    };
    seen.push(format!(
        "{} {:o} {} {} {}.{} {}.{} {content}",
        folder.display(),
        metadata.mode(),
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ));
    if metadata.is_dir() {
        let entries = fs::read_dir(folder).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        seen.extend(paths.iter().flat_map(|path| tree(path)));
    }
    seen
}

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
    let before = tree(&dir.path("output"));
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
    assert_eq!(tree(&dir.path("output")), before);
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
fn names_in_the_plan_are_harmless_and_closed_stdout_is_not_an_error() {
    let dir = TestDir::new();
    let fake = FakeServer::with(&[("a\u{ad}\u{180e}.png", ImageId(1), 5)], &[]);
    for (flag, line) in [
        ("--dry-run", "fetch    a__.png  5\n"),
        ("--check", "missing  a__.png\n"),
    ] {
        let output = dir.run(CLIENT, &[flag, "--addr", &fake.addr()]);
        output.assert_out(line);
        assert!(!dir.path("output").exists());
    }
    let name = "n".repeat(150);
    let names: Vec<String> = (0..100).map(|n| format!("{name}{n}.png")).collect();
    let entries: Vec<_> = names
        .iter()
        .zip(0..)
        .map(|(name, n)| (&**name, ImageId(n), 1))
        .collect();
    let fake = FakeServer::with(&entries, &[]);
    for (flag, code) in [("--dry-run", 0), ("--check", 3)] {
        let mut command = dir.command(CLIENT, &[flag, "-q", "--addr", &fake.addr()]);
        let streams = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        assert_eq!((child.wait().unwrap().code(), &*err), (Some(code), ""));
    }
}

#[test]
fn flags_that_contradict_each_other_are_usage_errors() {
    let dir = TestDir::new();
    for args in [
        "--dry-run --watch",
        "-n -w --batch",
        "-n --list",
        "--check --watch",
        "--check --batch",
        "--check --list",
        "--check -n",
    ] {
        dir.run(CLIENT, args)
            .assert_exit(2)
            .assert_in_err("cannot be used with");
    }
}

#[test]
fn errors_of_the_folder_and_the_network_are_those_of_a_run() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    dir.write("file", "");
    for flag in ["--dry-run", "--check"] {
        dir.fetch(&server, &[flag, "--out", "file"])
            .assert_failure(8, &["file", "--out"]);
    }
    let address = server.address.clone();
    server.stop();
    for flag in ["--dry-run", "--check"] {
        let output = dir.run(CLIENT, &[flag, "--addr", &address]);
        output.assert_failure(4, &[&address]);
        output.assert_out("");
        assert!(!dir.path("output").exists());
    }
}

#[test]
fn time_limit_ends_each_job_and_says_what_was_done() {
    let dir = TestDir::new();
    // Never answers.
    let fake = FakeServer::new(|_, _, stream| {
        let _ = stream.read(&mut [0]);
    });
    for (flag, done) in [
        ("--dry-run", "were not compared"),
        ("--check", "were not compared"),
        ("--list", "had not listed all images"),
        ("--batch", "nothing was fetched from 127.0.0.1"),
    ] {
        let args = [flag, "--max-time", "0.2", "--addr", &fake.addr()];
        dir.run(CLIENT, &args)
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
    let before = tree(&dir.path("output"));
    let output = dir.fetch(&server, "--check");
    output.assert_exit(0).assert_out("");
    output.assert_err("check: 3 images the same; 0 missing; 0 differ; 0 renamed; 0 extra\n");
    assert_eq!(tree(&dir.path("output")), before, "no index was written");

    dir.rename("output/a.png", "output/x.png");
    dir.write("output/b.jpg", "damaged");
    dir.write("output/mine.png", "mine");
    dir.write("output/notes.txt", "no image");
    dir.add("new.gif", &noise(100, 7));
    let before = tree(&dir.path("output"));
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
    assert_eq!(tree(&dir.path("output")), before);
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
fn checksum_makes_check_and_dry_run_read_files_that_the_index_knows() {
    let dir = TestDir::new();
    let (good, bad) = (noise(1000, 1), noise(1000, 2));
    dir.add("a.png", &good);
    let server = dir.serve("--no-tls");
    dir.fetch(&server, "--batch");
    let file = dir.path("output/a.png");
    let index = dir.path("output/.jtp-index");
    // The index is written by a later run, once the file is old enough.
    wait_until("the index has the file", || {
        dir.fetch(&server, "--batch");
        index.exists()
    });
    // An index that is wrong, as after an undetected change: it says that the damaged file is the good one.
    fs::write(&file, &bad).unwrap();
    wait_until("the index has the damaged file", || {
        fs::remove_file(&index).unwrap_or_default();
        dir.fetch(&server, "--batch --include nothing");
        index.exists()
    });
    let mut bytes = fs::read(&index).unwrap();
    bytes[60..68].copy_from_slice(&ImageId::of(&good).to_be_bytes());
    let checksum = ImageId::of(&bytes[20..]).to_be_bytes();
    bytes[12..20].copy_from_slice(&checksum);
    fs::write(&index, &bytes).unwrap();
    let before = tree(&dir.path("output"));
    for (args, code, out) in [
        ("--check", 0, ""),
        ("--check --checksum", 3, "differs  a.png\n"),
        ("-n --batch", 0, ""),
        ("-n --batch --checksum", 0, "replace  a.png  1000\n"),
    ] {
        let output = dir.fetch(&server, args);
        output.assert_exit(code).assert_out(out);
        assert_eq!(tree(&dir.path("output")), before, "{args:?}");
    }
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

/// Carries out the lines of a dry run on a folder in memory: names, and what has them.
fn carry_out(plan: &str, files: &mut BTreeMap<String, Option<ImageId>>) {
    for line in plan.lines() {
        let (action, rest) = line.split_at(9);
        match (action.trim_end(), rest.split_once(" -> ")) {
            ("rename" | "replace", Some((from, to))) => {
                let content = files.remove(from).expect(line);
                let replaced = files.insert(to.to_owned(), content);
                assert_eq!(replaced.is_some(), action == "replace  ", "{plan}");
            }
            ("fetch" | "replace", None) => {
                let (name, size) = rest.rsplit_once("  ").unwrap();
                assert!(size.parse::<u64>().is_ok(), "{line}");
                files.insert(name.to_owned(), None);
            }
            _ => panic!("{line}"),
        }
    }
}

/// The number before these words in a summary; 0 if it does not have them.
fn number(summary: &str, words: &str) -> u64 {
    let mut parts = summary.trim_end().split("; ");
    let number = parts.find_map(|part| part.strip_suffix(words)?.strip_suffix(' '));
    number.map_or(0, |number| number.parse().unwrap())
}

#[test]
fn r8_a_run_does_what_the_printed_plan_says_on_random_folders() {
    let names = ["a.png", "A.png", "b.jpg", "c.png", "d.gif", "é.png"];
    for_each_seed(24, |seed| {
        let mut rng = Rng::new(seed);
        let mut below = |n: u64| rng.below(n);
        let dir = TestDir::new();
        dir.make_dir("output");
        for name in names {
            if below(4) > 0 {
                dir.add(name, &noise(300, below(6)));
            }
            if below(4) > 0 {
                let file = dir.path("output").join(name);
                fs::write(file, noise(300, below(8))).unwrap();
            }
        }
        let server = dir.serve("--no-tls");
        let flags: &str = match below(4) {
            0 => "--exclude [ab]*",
            1 => "--type png",
            _ => "",
        };
        let mode = if below(3) == 0 { "" } else { "--batch" };
        let flags = format!("{flags} {mode}");
        let before = tree(&dir.path("output"));
        let planned = dir.fetch(&server, &format!("{flags} -n"));
        planned.assert_exit(0);
        assert_eq!(tree(&dir.path("output")), before);

        let known = |(name, id)| (name, Some(id));
        let mut files: BTreeMap<_, _> = dir.files("output").into_iter().map(known).collect();
        carry_out(&planned.out, &mut files);
        let done = dir.fetch(&server, &flags);
        done.assert_exit(0);
        let (plan, run) = (planned.err.lines().last(), done.out.lines().last());
        let (plan, run) = (plan.unwrap_or_default(), run.unwrap_or_default());
        for (would, did) in [
            ("already there", "already there"),
            ("would be renamed", "renamed"),
            (
                "would be kept under another name",
                "kept under another name",
            ),
            ("left out by filter", "left out by filter"),
        ] {
            assert_eq!(number(plan, would), number(run, did), "{plan}\n{run}");
        }
        let found: BTreeMap<_, _> = dir.files("output").into_iter().collect();
        assert!(found.keys().eq(files.keys()), "{}\n{found:?}", planned.out);
        let listed: Vec<ImageId> = dir.files("images").into_iter().map(|(_, id)| id).collect();
        for (name, content) in files {
            match content {
                Some(content) => assert_eq!(found[&name], content, "{name}"),
                None => assert!(listed.contains(&found[&name]), "{name}"),
            }
        }
    });
}
