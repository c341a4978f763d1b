//! What `--mirror` counts and reports, and which files it judges.

use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jtp_core::ImageId;

use crate::support::{
    CLIENT, FakeServer, ProcessOutput, TestDir, list_response, noise, packet, wait_until,
};

/// The header of the response to a request for images of this type.
fn head(request: u8) -> &'static [u8] {
    match request {
        0 => b"JTPD",
        2 => b"JTPB",
        _ => b"JTPG",
    }
}

const PLAIN: &str = "--no-tls";

fn png(seed: u64) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".as_slice(), &noise(200, seed)].concat()
}

fn jpeg(seed: u64) -> Vec<u8> {
    [b"\xff\xd8\xff\xe0".as_slice(), &noise(200, seed)].concat()
}

fn mirror(dir: &TestDir, args: &[&str]) -> ProcessOutput {
    let server = dir.serve(&[PLAIN]);
    let output = dir.fetch(&server, &[&["--mirror"], args].concat());
    server.stop();
    output
}

#[test]
fn type_judges_local_files_by_their_content() {
    let dir = TestDir::new();
    dir.add("kept.jpg", &jpeg(1));
    fs::create_dir(dir.path("output")).unwrap();
    fs::write(dir.path("output/png.jpg"), png(2)).unwrap();
    fs::write(dir.path("output/jpeg.png"), jpeg(3)).unwrap();
    let check = {
        let server = dir.serve(&[PLAIN]);
        dir.fetch(&server, &["--check", "--type", "jpeg"])
    };
    assert!(check.out.contains("extra    jpeg.png"), "{check:?}");
    assert!(!check.out.contains("png.jpg"), "{check:?}");
    let plan = mirror(&dir, &["--type", "jpeg", "--max-delete", "1", "--dry-run"]);
    assert!(plan.out.contains("delete   jpeg.png"), "{plan:?}");
    let output = mirror(&dir, &["--type", "jpeg", "--max-delete", "1"]);
    output.assert_no_error();
    assert_eq!(dir.names("output"), ["kept.jpg", "png.jpg"]);
    // The share is that of the files that are judged: 50 % of one JPEG is one file.
    fs::write(dir.path("output/jpeg.png"), jpeg(3)).unwrap();
    mirror(&dir, &["--type", "jpeg", "--max-delete", "50%"]).assert_no_error();
    assert_eq!(dir.names("output"), ["kept.jpg", "png.jpg"]);
}

/// The source of a rename is looked at as closely as a file that is deleted.
#[test]
fn r8_file_of_a_folder_that_was_swapped_since_the_scan_is_not_renamed() {
    let dir = TestDir::new();
    let (original, edited) = (png(1), png(2));
    for (folder, bytes) in [("output/2023", &original), ("edited", &edited)] {
        fs::create_dir_all(dir.path(folder)).unwrap();
        fs::write(dir.path(folder).join("a.png"), bytes).unwrap();
    }
    // Older files count as unchanged since the scan.
    let begun = Instant::now();
    wait_until("files are settled", || {
        begun.elapsed() > Duration::from_millis(100)
    });
    let (id, new) = (ImageId::of(&original), ImageId(7));
    let paths = ["output/2023", "before", "edited"].map(|name| dir.path(name));
    let lists = AtomicUsize::new(0);
    let server = FakeServer::new(move |_, request, stream| {
        let [folder, before, edited] = &paths;
        let response = match request {
            1 if lists.fetch_add(1, Ordering::SeqCst) == 0 => {
                list_response(&[("new.png", new, 100)])
            }
            1 => list_response(&[("renamed.png", id, 208)]),
            _ if !before.exists() => {
                // The folder was scanned. An image that is not sent leads to another LIST.
                fs::rename(folder, before).unwrap();
                fs::rename(edited, folder).unwrap();
                [head(request), &[0]].concat()
            }
            _ => [head(request), &[1], &packet(id, &original)].concat(),
        };
        let _ = stream.write_all(&response);
    });
    let args = ["--addr", &server.addr(), "--mirror", "--max-delete", "0"];
    let output = dir.run(CLIENT, &args);
    let stored = fs::read(dir.path("output/renamed.png"));
    assert_eq!(
        stored.map(|bytes| ImageId::of(&bytes)).ok(),
        Some(id),
        "{output:?}"
    );
    assert_eq!(fs::read(dir.path("output/2023/a.png")).unwrap(), edited);
}

#[test]
fn replaced_files_do_not_count_for_max_delete() {
    let dir = TestDir::new();
    fs::create_dir(dir.path("output")).unwrap();
    for number in 0..10 {
        let name = format!("{number}.png");
        dir.add(&name, &png(number));
        fs::write(dir.path("output").join(&name), png(100 + number)).unwrap();
    }
    let output = mirror(&dir, &["--max-delete", "0"]);
    output.assert_no_error();
    assert!(output.out.contains("10 replaced a file"), "{output:?}");
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn last_line_says_where_replaced_and_deleted_files_are() {
    let dir = TestDir::new();
    for number in 0..20 {
        dir.add(&format!("{number:02}.png"), &png(number));
    }
    mirror(&dir, &["--backup-dir", "old"]).assert_no_error();
    assert!(!dir.path("old").exists());
    fs::remove_file(dir.path("images/00.png")).unwrap();
    // An image that takes the name of one that is gone, and new content.
    fs::rename(dir.path("images/01.png"), dir.path("images/02.png")).unwrap();
    dir.add("03.png", &png(103));
    let args = ["--backup-dir", "old", "--max-delete", "5"];
    let output = mirror(&dir, &args);
    output.assert_no_error();
    assert!(output.out.ends_with("; 3 moved to old\n"), "{output:?}");
    assert_eq!(dir.names("old"), ["00.png", "02.png", "03.png"]);
    fs::remove_file(dir.path("images/04.png")).unwrap();
    let output = mirror(&dir, &[&args[..], &["--json"]].concat());
    assert!(output.out.contains(r#""backed_up":1"#), "{output:?}");
}

#[test]
fn files_that_are_not_deleted_are_counted_once_however_often_the_server_is_asked() {
    let dir = TestDir::new();
    for number in 0..10 {
        dir.add(&format!("{number}.png"), &png(number));
    }
    fs::create_dir(dir.path("output")).unwrap();
    for number in 0..3 {
        let name = format!("output/extra{number}.png");
        fs::write(dir.path(&name), png(50 + number)).unwrap();
    }
    let output = mirror(&dir, &["--max-delete", "0", "--repeat", "3"]);
    assert_eq!(output.code, Some(3), "{output:?}");
    let last = output.out.lines().last().unwrap();
    assert!(last.ends_with("; 3 not deleted"), "{output:?}");
}
