//! What `--mirror` counts and reports, and which files it judges.

use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jtp_core::ImageId;

use crate::mirror::mirror;
use crate::support::{
    FakeServer, Folder as _, TestDir, images_response, list_response, noise, packet, wait_until,
};

fn png(seed: u64) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".as_slice(), &noise(200, seed)].concat()
}

fn jpeg(seed: u64) -> Vec<u8> {
    [b"\xff\xd8\xff\xe0".as_slice(), &noise(200, seed)].concat()
}

#[test]
fn type_judges_local_files_by_their_content() {
    let dir = TestDir::new();
    dir.add("kept.jpg", &jpeg(1));
    dir.make_dir("output");
    dir.write("output/png.jpg", png(2));
    dir.write("output/jpeg.png", jpeg(3));
    let check = {
        let server = dir.serve("--no-tls");
        dir.fetch(&server, "--check --type jpeg")
    };
    check.assert_in_out("extra    jpeg.png");
    assert!(!check.out.contains("png.jpg"), "{check:?}");
    mirror(&dir, "--type jpeg --max-delete 1 --dry-run").assert_in_out("delete   jpeg.png");
    let output = mirror(&dir, "--type jpeg --max-delete 1");
    output.assert_no_error();
    assert_eq!(dir.names("output"), ["kept.jpg", "png.jpg"]);
    // The share is that of the files that are judged: 50 % of one JPEG is one file.
    dir.write("output/jpeg.png", jpeg(3));
    mirror(&dir, "--type jpeg --max-delete 50%").assert_no_error();
    assert_eq!(dir.names("output"), ["kept.jpg", "png.jpg"]);
}

/// The source of a rename is looked at as closely as a file that is deleted.
#[test]
fn r8_file_of_a_folder_that_was_swapped_since_the_scan_is_not_renamed() {
    let dir = TestDir::new();
    let (original, edited) = (png(1), png(2));
    for (folder, bytes) in [("output/2023", &original), ("edited", &edited)] {
        dir.make_dir(folder);
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
                images_response(request, &[])
            }
            _ => images_response(request, &[packet(id, &original)]),
        };
        let _ = stream.write_all(&response);
    });
    let output = server.fetch(&dir, "--mirror --max-delete 0");
    let stored = fs::read(dir.path("output/renamed.png"));
    assert_eq!(
        stored.map(|bytes| ImageId::of(&bytes)).ok(),
        Some(id),
        "{output:?}"
    );
    assert_eq!(dir.read("output/2023/a.png"), edited);
}

#[test]
fn last_line_says_where_replaced_and_deleted_files_are() {
    let dir = TestDir::new();
    for number in 0..20 {
        dir.add(&format!("{number:02}.png"), &png(number));
    }
    mirror(&dir, "--backup-dir old").assert_no_error();
    assert!(!dir.path("old").exists());
    dir.remove("images/00.png");
    // An image that takes the name of one that is gone, and new content.
    dir.rename("images/01.png", "images/02.png");
    dir.add("03.png", &png(103));
    let args = "--backup-dir old --max-delete 5";
    let output = mirror(&dir, args);
    output.assert_no_error();
    assert!(output.out.ends_with("; 3 moved to old\n"), "{output:?}");
    assert_eq!(dir.names("old"), ["00.png", "02.png", "03.png"]);
    dir.remove("images/04.png");
    mirror(&dir, &format!("{args} --json")).assert_in_out(r#""backed_up":1"#);
}
