//! `--mirror`, `--backup-dir` and `--keep-existing`: what goes, and what never does.

use std::fs::{self, File};
use std::io::Write as _;

use jtp_core::ImageId;

use crate::support::{
    FakeServer, Folder as _, Output, TestDir, images_response, list_response, noise, packet,
    wait_until,
};

/// A folder `images` with `count` images, and an output folder with all of them.
fn mirrored(count: u64) -> TestDir {
    let dir = TestDir::new();
    for number in 0..count {
        let name = format!("{number:02}.png");
        dir.add(&name, &noise(500, number + 1));
    }
    let server = dir.serve("--no-tls");
    dir.fetch(&server, "--mirror").assert_no_error();
    server.stop();
    assert_eq!(dir.files("output"), dir.files("images"));
    dir
}

pub(crate) fn mirror(dir: &TestDir, args: &str) -> Output {
    let server = dir.serve("--no-tls");
    let output = dir.fetch(&server, &format!("--mirror {args}"));
    server.stop();
    output
}

#[test]
fn r8_mirror_keeps_images_whose_files_are_being_changed_or_cannot_be_read_on_the_server() {
    let dir = mirrored(20);
    let image = |name: &str| dir.path(&format!("images/{name}"));
    let before = dir.files("output");
    let server = dir.serve("--no-tls");
    let open = |name: &str| File::options().write(true).open(image(name)).unwrap();
    let overwritten = open("00.png");
    (&overwritten).write_all(&noise(100, 7)).unwrap();
    let truncated = open("01.png");
    truncated.set_len(100).unwrap();
    let mut half_copied = File::create(image("02.png")).unwrap();
    half_copied.write_all(b"first half").unwrap();
    fs::remove_file(image("03.png")).unwrap();
    let replaced = File::create(image("03.png")).unwrap();
    drop(File::create(image("04.png")).unwrap());
    // The server has noticed all of these before it lists a later one.
    for name in ["20.png", "21.png"] {
        dir.add(
            name,
            &noise(500, name.len() as u64 + u64::from(name.as_bytes()[1])),
        );
        wait_until("it is fetched", || {
            let output = dir.fetch(&server, "--mirror");
            assert!(!output.out.contains("deleted"), "{output:?}");
            dir.path(&format!("output/{name}")).exists()
        });
    }
    let after = dir.files("output");
    assert_eq!(after[..20], before);
    // Complete again.
    drop((overwritten, truncated, replaced));
    half_copied.write_all(b", second half").unwrap();
    drop(half_copied);
    fs::write(image("03.png"), noise(500, 99)).unwrap();
    fs::write(image("04.png"), noise(500, 98)).unwrap();
    wait_until("both folders are equal", || {
        dir.fetch(&server, "--mirror").assert_no_error();
        dir.files("output") == dir.files("images")
    });
    server.stop();
}

#[test]
fn mirror_deletes_what_the_server_lost_and_renames_what_it_renamed() {
    let dir = mirrored(20);
    dir.remove("images/00.png");
    dir.rename("images/01.png", "images/renamed.png");
    fs::copy(dir.path("output/02.png"), dir.path("output/copy.png")).unwrap();
    let plan = mirror(&dir, "--dry-run");
    let lines = "rename   01.png -> renamed.png\ndelete   00.png\ndelete   copy.png\n";
    plan.assert_exit(0).assert_out(lines);
    assert!(
        plan.err
            .ends_with("1 would be renamed; 2 would be deleted\n"),
        "{plan:?}"
    );
    assert!(dir.path("output/00.png").exists());

    let output = mirror(&dir, "");
    output.assert_no_error();
    let summary = output.out.clone();
    assert!(summary.contains("fetched 0 images"), "{summary}");
    assert!(summary.ends_with("; 1 renamed; 2 deleted\n"), "{summary}");
    assert_eq!(dir.files("output"), dir.files("images"));
    let again = mirror(&dir, "");
    assert!(
        again.out.ends_with("19 already there; 0 failed\n"),
        "{again:?}"
    );
}

#[test]
fn empty_source_deletes_nothing_unless_100_percent_is_allowed() {
    let dir = mirrored(5);
    let all = dir.files("output");
    // A disk that is not mounted: an empty folder in its place.
    dir.rename("images", "unmounted");
    dir.make_dir("images");
    for args in ["", "--max-delete 99%", "--max-delete 1000"] {
        let output = mirror(&dir, args);
        output.assert_exit(3);
        let reason = "nothing was deleted: the server lists no images, and the folder has 5 images";
        output.assert_in_err(reason);
        output.assert_in_out("5 not deleted");
        assert_eq!(dir.files("output"), all);
    }
    mirror(&dir, "--dry-run").assert_exit(3).assert_out("");
    mirror(&dir, "--max-delete 100%").assert_no_error();
    assert!(dir.names("output").is_empty());
}

#[test]
fn shrunken_or_wrong_source_deletes_nothing() {
    let dir = mirrored(20);
    let all = dir.files("output");
    for number in 0..10 {
        dir.remove(format!("images/{number:02}.png"));
    }
    let output = mirror(&dir, "");
    output.assert_exit(3);
    let reason = "10 images of the folder's 20, more than the 2 of --max-delete 10%";
    output.assert_in_err(reason);
    assert_eq!(dir.files("output"), all);
    // Another folder of the same size: its images are fetched, and nothing goes.
    dir.rename("images", "right");
    dir.make_dir("images");
    for number in 0..20 {
        dir.add(&format!("other{number}.png"), &noise(300, 100 + number));
    }
    let output = mirror(&dir, "");
    output.assert_exit(3);
    assert_eq!(dir.names("output").len(), 40);
    dir.remove("images");
    dir.rename("right", "images");
    mirror(&dir, "--max-delete 30").assert_no_error();
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn half_read_catalog_deletes_nothing() {
    let dir = TestDir::new();
    dir.make_dir("output");
    let images: Vec<_> = (0..3).map(|n| noise(100, n)).collect();
    for (n, bytes) in images.iter().enumerate() {
        dir.write(format!("output/{n}.png"), bytes);
    }
    let all = dir.files("output");
    let id = ImageId::of(&images[0]);
    // One entry of the three that it announces, and then the end; an end in the middle of an entry.
    let list = list_response(&[("0.png", id, 100), ("1.png", ImageId(1), 100)]);
    let first = list_response(&[("0.png", id, 100)]).len();
    for length in [first, first + 10] {
        let mut response = list[..length].to_vec();
        response[4] = 3;
        let server = FakeServer::answering(response);
        let kept = "nothing was deleted: the server sent only a part of its catalog";
        for (job, code, message) in [
            ("--mirror", 3, kept),
            ("--mirror --max-delete 100%", 3, kept),
            ("--mirror --max-delete 100 --json", 3, kept),
            ("--batch", 3, "announced 3 images and listed 1"),
            ("--dry-run", 3, "announced 3 images and listed 1"),
            ("--list", 4, "closed the connection early"),
            ("--check", 3, "the catalog is incomplete"),
        ] {
            let output = server.fetch(&dir, &format!("{job} --retries 0"));
            output.assert_exit(code).assert_in_err(message);
            assert!(!output.out.contains("extra"), "{output:?}");
            let ended = output.out.contains(r#""exit_code":3"#);
            assert_eq!(ended, job.contains("json"), "{output:?}");
            assert_eq!(dir.files("output"), all, "{output:?}");
        }
    }
}

#[test]
fn failed_image_keeps_what_the_server_does_not_list() {
    let dir = TestDir::new();
    dir.make_dir("output");
    dir.write("output/old.png", noise(100, 1));
    let id = ImageId(7);
    let server = FakeServer::with(&[("new.png", id, 3)], &[packet(id, b"bad")]);
    let output = server.fetch(&dir, "--mirror --max-delete 100%");
    output.assert_exit(3);
    output.assert_in_err("nothing was deleted: some images failed");
    assert_eq!(dir.names("output"), ["old.png"]);
}

#[test]
fn files_that_are_no_images_or_are_filtered_out_stay() {
    let dir = mirrored(3);
    let out = dir.path("output");
    out.write("notes.txt", "notes");
    out.write("disk.img", "a disk image");
    out.write(".hidden.png", noise(10, 50));
    out.write("raw.dng", noise(10, 51));
    out.write("gone.png", noise(10, 52));
    out.make_dir("empty");
    out.make_dir("album");
    out.write("album/gone.png", noise(10, 53));
    dir.write("outside.png", noise(10, 54));
    out.link(dir.path("outside.png"), "link.png");
    let output = mirror(&dir, "--max-delete 100% --exclude *.dng");
    output.assert_no_error();
    assert!(output.out.ends_with("; 2 deleted\n"), "{output:?}");
    for kept in [
        "notes.txt",
        "disk.img",
        ".hidden.png",
        "raw.dng",
        "empty",
        "link.png",
    ] {
        assert!(out.join(kept).exists(), "{kept}");
    }
    for gone in ["gone.png", "album"] {
        assert!(!out.join(gone).exists(), "{gone}");
    }
    assert!(dir.path("outside.png").exists());
}

#[test]
fn run_that_ends_at_a_limit_deletes_nothing_and_reports_it() {
    let dir = mirrored(5);
    dir.remove("images/00.png");
    for number in 0..5 {
        dir.add(&format!("new{number}.png"), &noise(500, 60 + number));
    }
    let output = mirror(&dir, "--max-total-size 700 --max-delete 100%");
    assert_ne!(output.code, Some(0), "{output:?}");
    output.assert_in_err("nothing was deleted: the run ended early");
    assert!(dir.path("output/00.png").exists());
}

#[test]
fn percentage_counts_only_selected_images() {
    let dir = mirrored(40);
    let all = dir.files("output");
    // Three of the ten selected images. Three are within 10 % of 40, and not of 10.
    for number in 0..3 {
        dir.remove(format!("images/{number:02}.png"));
    }
    let output = mirror(&dir, "--include 0*.png");
    output.assert_exit(3);
    let reason = "3 images of the folder's 10, more than the 1 of --max-delete 10%";
    output.assert_in_err(reason);
    assert_eq!(dir.files("output"), all);
    mirror(&dir, "--include 0*.png --max-delete 30%").assert_no_error();
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn backup_dir_keeps_what_is_deleted_and_replaced() {
    let dir = mirrored(12);
    let before = dir.files("output");
    dir.remove("images/00.png");
    dir.add("01.png", &noise(600, 77));
    // What is replaced does not count for the limit.
    let output = mirror(&dir, "--backup-dir old --max-delete 1");
    output.assert_no_error();
    output.assert_in_out("1 replaced a file");
    output.assert_in_out("1 deleted");
    assert_eq!(dir.files("old"), before[..2]);
    assert_eq!(dir.files("output"), dir.files("images"));
    // Without --mirror, and a name that is in use there.
    dir.add("01.png", &noise(600, 78));
    let server = dir.serve("--no-tls");
    dir.fetch(&server, "--batch --backup-dir old")
        .assert_no_error();
    let suffixed = format!("01-{}.png", ImageId::of(&noise(600, 77)));
    assert_eq!(
        dir.names("old"),
        ["00.png".to_owned(), suffixed.clone(), "01.png".to_owned()]
    );
    // Every image anew: what is already there needs no backup.
    dir.fetch(&server, "--backup-dir old").assert_no_error();
    assert_eq!(dir.names("old").len(), 3);
}

#[test]
fn backup_dir_that_overlaps_the_output_folder_is_refused_and_a_hidden_one_works() {
    let dir = mirrored(12);
    dir.remove("images/00.png");
    dir.link(dir.path("output"), "alias");
    for backup in ["output", "output/old", "output/a/old", ".", "alias/old"] {
        let output = mirror(&dir, &format!("--backup-dir {backup}"));
        output.assert_exit(2);
        output.assert_in_err("must not contain each other");
        assert_eq!(dir.names("output").len(), 12);
    }
    mirror(&dir, "--backup-dir output/.old").assert_no_error();
    assert_eq!(dir.names("output/.old"), ["00.png"]);
    let again = mirror(&dir, "--backup-dir output/.old");
    assert!(
        again.out.ends_with("11 already there; 0 failed\n"),
        "{again:?}"
    );
}

#[test]
fn keep_existing_replaces_no_file() {
    let dir = mirrored(3);
    let before = dir.files("output");
    let new = noise(700, 90);
    dir.add("00.png", &new);
    let server = dir.serve("--no-tls");
    let output = dir.fetch(&server, "--batch --keep-existing");
    output.assert_no_error();
    let id = ImageId::of(&new);
    let mut expected = before;
    expected.push((format!("00-{id}.png"), id));
    expected.sort();
    assert_eq!(dir.files("output"), expected);
    dir.fetch(&server, "--batch --keep-existing")
        .assert_in_out("fetched 0 images");
    assert_eq!(dir.files("output"), expected);
}

#[test]
fn folders_that_renames_emptied_go_even_if_nothing_may_be_deleted() {
    let dir = mirrored(4);
    let out = dir.path("output");
    out.make_dir("old/album");
    out.rename("00.png", "old/album/00.png");
    for number in 0..2 {
        let picture = noise(50, 300 + number);
        out.write(format!("gone{number}.png"), picture);
    }
    mirror(&dir, "--max-delete 1").assert_exit(3);
    assert!(out.join("00.png").exists() && out.join("gone0.png").exists());
    assert!(!out.join("old").exists());
}

#[test]
fn files_of_a_folder_that_was_swapped_since_the_scan_stay() {
    let dir = TestDir::new();
    let out = dir.path("output");
    for (folder, seed) in [("output/2023", 0), ("edited", 100)] {
        dir.make_dir(folder);
        for number in 0..5 {
            let picture = noise(200, seed + number);
            fs::write(dir.path(folder).join(format!("{number}.png")), picture).unwrap();
        }
    }
    let new = noise(100, 500);
    let id = ImageId::of(&new);
    let (edited, before) = (dir.path("edited"), dir.path("before"));
    let server = FakeServer::new(move |_, request, stream| {
        let response = if request == 1 {
            list_response(&[("new.png", id, 100)])
        } else {
            // The folder was scanned.
            fs::rename(out.join("2023"), &before).unwrap();
            fs::rename(&edited, out.join("2023")).unwrap();
            images_response(request, &[packet(id, &new)])
        };
        let _ = stream.write_all(&response);
    });
    let output = server.fetch(&dir, "--mirror --max-delete 100%");
    assert!(dir.path("output/new.png").exists(), "{output:?}");
    assert!(dir.path("before").exists());
    assert_eq!(dir.names("output/2023").len(), 5, "{output:?}");
}

#[test]
fn hard_link_to_a_listed_image_stays() {
    let dir = mirrored(4);
    dir.hard_link("output/00.png", "output/link.png");
    assert_eq!(mirror(&dir, "--dry-run").out, "");
    mirror(&dir, "").assert_no_error();
    assert!(dir.path("output/link.png").exists() && dir.path("output/00.png").exists());
}

#[test]
fn file_that_takes_the_name_of_a_folder_gets_it_in_one_run() {
    let dir = TestDir::new();
    dir.make_dir("images/p.png");
    dir.add("p.png/i.png", &noise(100, 1));
    dir.add("q.png", &noise(100, 2));
    let run = |args: &str| {
        let server = dir.serve("--no-tls --recursive");
        let output = dir.fetch(&server, args);
        server.stop();
        output
    };
    run("--mirror").assert_no_error();
    for (from, to) in [("p.png", "t"), ("q.png", "p.png"), ("t", "q.png")] {
        fs::rename(dir.path("images").join(from), dir.path("images").join(to)).unwrap();
    }
    assert_eq!(run("--mirror").code, Some(0));
    assert!(dir.path("output/p.png").is_file());
    assert!(dir.path("output/q.png/i.png").is_file());
    assert_eq!(run("--check").code, Some(0));
}

#[test]
fn mirror_follows_renames_and_removals_while_it_watches() {
    let dir = mirrored(20);
    let server = dir.serve("--no-tls");
    let client = dir.watch(&server.address, "--mirror");
    dir.remove("images/00.png");
    dir.rename("images/01.png", "images/renamed.png");
    // A removal and a rename are no events. A LIST follows soon after several new images.
    for number in 0..10 {
        dir.add(&format!("new{number}.png"), &noise(300, 200 + number));
    }
    wait_until("the folders to be the same", || {
        dir.files("output") == dir.files("images")
    });
    client.end(rustix::process::Signal::TERM).assert_exit(130);
}
