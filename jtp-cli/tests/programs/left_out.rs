//! Which files a server shares: by their first bytes, by `--include` and `--exclude`, and what it says of the others.

use serde_json::Value;

use crate::support::{Folder as _, TestDir, noise, wait_until};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";

/// The lines about what is left out, without time and level.
fn left_out(log: &str) -> Vec<&str> {
    let line = |line: &'_ str| line.find("left out: ").map(|at| at + "left out: ".len());
    log.lines()
        .filter_map(|text| line(text).and_then(|at| text.get(at..)))
        .collect()
}

fn write(dir: &TestDir, name: &str, bytes: &[u8]) {
    dir.write(format!("images/{name}"), bytes);
}

#[test]
fn images_are_shared_by_their_first_bytes_and_get_an_extension_at_the_client() {
    let dir = TestDir::new();
    write(&dir, "IMG_0001", PNG);
    write(&dir, "photo.bin", &[b"\xff\xd8\xff", PNG].concat());
    write(&dir, "disk.img", b"GIF89a");
    write(&dir, "other.img", b"a disk");
    write(&dir, "a.png.part", &[PNG, b"!"].concat());
    write(&dir, "notes.txt", b"BMI,weight\n");
    let server = dir.serve("");
    assert_eq!(dir.listed(&server), ["IMG_0001", "disk.img", "photo.bin"]);
    dir.fetch(&server, "--out out").assert_exit(0);
    let names = ["IMG_0001.img", "disk.img", "photo.bin.img"];
    assert_eq!(dir.names("out"), names);
    // A download that is complete, and a file that becomes an image.
    let images = dir.path("images");
    images.rename("a.png.part", "a.png");
    write(&dir, "notes.txt", &noise(100, 3));
    write(&dir, "notes.txt", &[b"GIF87a", PNG].concat());
    let expected = ["IMG_0001", "a.png", "disk.img", "notes.txt", "photo.bin"];
    wait_until("both are images", || dir.listed(&server) == expected);
}

#[test]
fn a_folder_of_year_folders_is_told_how_to_be_shared() {
    let dir = TestDir::new();
    for year in 2010..2022 {
        dir.make_dir(format!("images/{year}"));
    }
    let output = dir.serve("").stop();
    output.assert_in_err("sharing 0 images");
    assert_eq!(
        left_out(&output.err),
        ["12 sub-folders (2010, 2011, 2012, …): share them with --recursive"]
    );
    let output = dir.serve("-v").stop();
    let years: Vec<_> = (2010..2022).map(|year| year.to_string()).collect();
    let line = format!(
        "12 sub-folders ({}): share them with --recursive",
        years.join(", ")
    );
    assert_eq!(left_out(&output.err), [line]);
}

#[test]
fn the_start_says_how_many_files_are_left_out_by_reason() {
    let dir = TestDir::with_images();
    let images = dir.path("images");
    assert!(left_out(&dir.serve("").stop().err).is_empty());
    write(&dir, "copy.png", &images.read("a.png"));
    write(&dir, ".hidden", PNG);
    write(&dir, "a.png~", PNG);
    write(&dir, "draft.png", b"draft");
    write(&dir, "new\nline \x1b[31m", b"text");
    for n in 0..9_999 {
        write(&dir, &format!("zz-{n:04}.txt"), b"text");
    }
    images.link("/etc/passwd", "link");
    let args = "--exclude draft*";
    let expected = [
        "10,000 files that are no images (\"new\\nline \\u{1b}[31m\", zz-0000.txt, zz-0001.txt, …)",
        "1 hidden file or folder (.hidden)",
        "1 temporary file or backup (a.png~)",
        "1 file by --only, --include or --exclude (draft.png)",
        "1 file with the same bytes as another one (copy.png)",
        "1 link that leads to no file that is shared (link)",
    ];
    // At the first start, and when the files are known.
    for _ in 0..2 {
        let output = dir.serve(&args).stop();
        output.assert_in_err("sharing 3 images");
        assert_eq!(left_out(&output.err), expected);
    }
    let output = dir.serve("--exclude draft* --log-format json").stop();
    let lines = output
        .err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines
        .filter(|line: &Value| line["message"].as_str().unwrap().starts_with("left out: "))
        .collect();
    assert_eq!(lines.len(), expected.len());
    assert_eq!(lines[0]["reason"], "not_an_image");
    assert_eq!(lines[0]["count"], 10_000);
    assert_eq!(lines[1]["names"], ".hidden");
}

#[test]
fn the_last_pattern_that_matches_decides_and_only_applies_as_well() {
    let dir = TestDir::new();
    for name in ["a.jpg", "a.png", "b.jpg", "c.gif"] {
        write(&dir, name, name.as_bytes());
    }
    for (args, expected) in [
        ("--include *.jpg --exclude a.*", &["b.jpg"][..]),
        (
            "--exclude a.* --include *.jpg",
            &["a.jpg", "b.jpg", "c.gif"],
        ),
        (
            "--include a.* --include /b.jpg --exclude=*.png",
            &["a.jpg", "b.jpg"],
        ),
        ("--include *.{jpg,gif} --only C", &["c.gif"]),
        ("--include sub/**", &[]),
    ] {
        let server = dir.serve(args);
        assert_eq!(dir.listed(&server), expected, "{args:?}");
    }
}

#[test]
fn a_renamed_file_enters_or_leaves_the_selection() {
    let dir = TestDir::new();
    write(&dir, "draft-a.png", b"1");
    write(&dir, "b.png", b"2");
    let server = dir.serve("--exclude draft-*");
    assert_eq!(dir.listed(&server), ["b.png"]);
    let images = dir.path("images");
    images.rename("draft-a.png", "a.png");
    images.rename("b.png", "draft-b.png");
    wait_until("both are renamed", || dir.listed(&server) == ["a.png"]);
}
