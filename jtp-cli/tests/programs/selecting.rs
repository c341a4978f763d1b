//! Which images: `--include`, `--exclude`, `--type`, `--get`, in each mode; and `--list --sort --long`.

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::support::{FakeServer, Folder as _, TestDir, listed_names, noise};

/// `a.png`, `b.jpg`, `c.bmp`, and three more.
fn gallery() -> TestDir {
    let dir = TestDir::with_images();
    dir.add("a-small.png", &noise(300, 4));
    dir.add("d.gif", &noise(500, 5));
    dir.add("scan.tiff", &noise(700, 6));
    dir
}

fn id(dir: &TestDir, name: &str) -> String {
    ImageId::of(&dir.read(format!("images/{name}"))).to_string()
}

#[test]
fn only_selected_images_are_fetched_and_listed_in_each_mode() {
    let dir = gallery();
    let server = dir.serve("--no-tls");
    let (a, d) = (id(&dir, "a.png"), id(&dir, "d.gif"));
    for (n, (flags, expected)) in [
        ("--include *.png", &["a-small.png", "a.png"][..]),
        ("--exclude *.png", &["b.jpg", "c.bmp", "d.gif", "scan.tiff"]),
        ("--include *.png --exclude *-small.*", &["a.png"]),
        (
            "--exclude *-small.* --include a*",
            &[
                "a-small.png",
                "a.png",
                "b.jpg",
                "c.bmp",
                "d.gif",
                "scan.tiff",
            ],
        ),
        ("--exclude * --include {b,d}.*", &["b.jpg", "d.gif"]),
        ("--type jpeg,bmp", &["b.jpg", "c.bmp"]),
        ("--type JPG --type other", &["b.jpg", "scan.tiff"]),
        ("--type png --exclude a-*", &["a.png"]),
        (&format!("--get {a} --get {d}"), &["a.png", "d.gif"]),
        (&format!("--get {a} --type gif"), &[]),
        ("--include nothing", &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let left_out = 6 - expected.len();
        for (mode, args) in ["", "--batch", "-p 3 -k", "--batch -p 2"]
            .into_iter()
            .enumerate()
        {
            let out = format!("out{n}-{mode}");
            let args = format!("{flags} {args} --out {out}");
            let output = dir.fetch(&server, &args);
            output.assert_exit(0).assert_err("");
            assert_eq!(dir.names(&out), expected, "{args:?}");
            let counted = output
                .out
                .contains(&format!("; {left_out} left out by filter"));
            assert_eq!(counted, left_out > 0, "{args:?}: {output:?}");
            output.assert_in_out("; 0 already there; 0 failed");
        }
        let listed = dir.fetch(&server, &format!("{flags} --list"));
        listed.assert_exit(0);
        let is_reported = listed.err.contains("lists 6 images, and none is selected");
        assert_eq!(is_reported, expected.is_empty(), "{listed:?}");
        assert_eq!(listed_names(&listed), expected, "{flags:?}");
    }
}

#[test]
fn an_id_that_the_server_does_not_have_is_reported_with_exit_code_3() {
    let dir = gallery();
    let server = dir.serve("--no-tls");
    let known = id(&dir, "d.gif");
    let flags = format!("--get 000000000000000F --get {known}");
    let line = "failed: 000000000000000f: the server does not list it\n";
    for args in ["", "--batch", "--list"] {
        let output = dir.fetch(&server, &format!("{flags} {args}"));
        output.assert_exit(3).assert_err(line);
        assert_eq!(output.out.contains("d.gif"), args.contains("--list"));
    }
    for args in ["--dry-run", "--check"] {
        dir.fetch(&server, &format!("{flags} {args}"))
            .assert_exit(3)
            .assert_in_err(line);
    }
    assert_eq!(dir.names("output"), ["d.gif"]);
    dir.fetch(&server, &format!("{flags} --batch")).assert_summary(
        "fetched 0 images (0 B); 1 already there; 1 failed: 1 not on the server; 5 left out by filter",
    );
    // One that the server has and a pattern leaves out is no failure.
    dir.fetch(&server, &format!("--get {known} --exclude d.*"))
        .assert_exit(0)
        .assert_err("");
}

#[test]
fn limits_of_the_job_go_by_the_selected_images() {
    let dir = gallery();
    let server = dir.serve("--no-tls");
    let limits = "--max-total-size 1300 --max-time 1m";
    let small = format!("{limits} --type png");
    dir.fetch(&server, &small).assert_success(
        "fetched 2 images (1.27 KiB); 0 already there; 0 failed; 4 left out by filter",
    );
    let large = format!("{limits} --type bmp --out large");
    dir.fetch(&server, &large)
        .assert_failure(3, &["1300 bytes", "--max-total-size"]);
    assert!(dir.names("large").is_empty());
}

#[test]
fn n5_a_watching_client_fetches_only_new_images_that_are_selected() {
    let dir = gallery();
    let server = dir.serve("--no-tls");
    let client = dir.watch(&server.address, "--include *.png");
    assert!(client.out.next_line().starts_with("fetched 2 images"));
    dir.add("no.jpg", &noise(400, 10));
    dir.add("new.png", &noise(400, 11));
    assert_eq!(client.out.next_line(), "fetched new.png (400 B)");
    dir.add("other.gif", &noise(400, 12));
    dir.add("newer.png", &noise(400, 13));
    assert_eq!(client.out.next_line(), "fetched newer.png (400 B)");
    client.end(Signal::INT).assert_exit(130);
    assert_eq!(
        dir.names("output"),
        ["a-small.png", "a.png", "new.png", "newer.png"]
    );
}

#[test]
fn hostile_names_are_matched_as_the_server_sends_them() {
    let dir = TestDir::new();
    let entries = [
        ("../../x.png", ImageId(1), 5),
        ("a\n.png", ImageId(2), 5),
        ("", ImageId(3), 5),
        ("-rf.png", ImageId(4), 5),
    ];
    let fake = FakeServer::with(&entries, &[]);
    for (pattern, expected) in [
        ("x.png", &["1"][..]),
        ("../../*", &["1"]),
        ("a?.png", &["2"]),
        ("-*", &["4"]),
        ("*.png", &["1", "2", "4"]),
        ("**", &["1", "2", "3", "4"]),
    ] {
        let include = format!("--include={pattern}");
        let output = fake.fetch(&dir, &format!("--list {include}"));
        output.assert_exit(0);
        let ids: Vec<_> = output.out.lines().map(|line| &line[15..16]).collect();
        assert_eq!(ids, expected, "{pattern}");
    }
}

#[test]
fn list_is_sorted_and_printed_long() {
    let dir = gallery();
    let server = dir.serve("--no-tls --compression-threshold 0");
    for (args, expected) in [
        (
            "--sort name",
            "a-small.png a.png b.jpg c.bmp d.gif scan.tiff",
        ),
        (
            "--sort size",
            "c.bmp b.jpg a.png scan.tiff d.gif a-small.png",
        ),
        (
            "--sort type --long",
            "c.bmp d.gif b.jpg a-small.png a.png scan.tiff",
        ),
    ] {
        let output = dir.fetch(&server, &format!("--list {args}"));
        assert_eq!(listed_names(&output).join(" "), expected, "{args}");
    }
    let long = dir.fetch(&server, "--list --long --type bmp,jpeg");
    let expected = format!(
        "  1.95 KiB  JPEG  {}  b.jpg\n195.31 KiB  BMP   {}  c.bmp\n",
        id(&dir, "b.jpg"),
        id(&dir, "c.bmp")
    );
    long.assert_out(&expected);
}
