//! `server --recursive` shares a tree, and the client makes its folders again. // W9

use std::fs;

use crate::support::{Folder as _, Process, SERVER, TestDir, noise, tree, wait_until};

pub(crate) fn write(dir: &TestDir, path: &str, seed: u64) {
    let path = dir.path("images").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, noise(2_000, seed)).unwrap();
}

#[test]
fn w9_a_tree_is_shared_and_made_again_by_the_client() {
    let dir = TestDir::new();
    let paths = ["2024/Rome/a.png", "2024/b.png", "2025/a.png", "c.png"];
    for (seed, path) in (1..).zip(paths) {
        write(&dir, path, seed);
    }
    write(&dir, ".thumbnails/x.png", 77);
    dir.link("2024", "images/link");
    // Without the flag, as before.
    let server = dir.serve("");
    assert_eq!(dir.listed(&server), ["c.png"]);
    server.stop().assert_in_err("share them with --recursive");
    for flag in ["--recursive", "-r"] {
        let server = dir.serve(&[flag]);
        assert_eq!(dir.listed(&server), paths);
        server
            .stop()
            .assert_not_in_err("--recursive")
            .assert_in_err("1 hidden file or folder (.thumbnails)")
            .assert_in_err("1 link that leads to no file that is shared (link)");
    }
    let server = dir.serve("-r");
    dir.fetch(&server, "").assert_exit(0);
    dir.remove("images/link");
    let made = tree(&dir.path("output"));
    assert!(made.keys().eq(paths), "{made:?}");
    assert_eq!(made, tree(&dir.path("images")));
}

/// Whether each way to change a tree is noticed.
fn assert_followed(dir: &TestDir, server: &Process) {
    let before = dir.listed(server);
    let images = dir.path("images");
    write(dir, "19/added.png", 900);
    write(dir, "fresh/folder/added.png", 901);
    let with = |more: &[&str]| {
        let more = more.iter().map(|path| (*path).to_owned());
        let mut all: Vec<_> = before.iter().cloned().chain(more).collect();
        all.sort();
        all
    };
    let expected = with(&["19/added.png", "fresh/folder/added.png"]);
    wait_until("both files are listed", || dir.listed(server) == expected);
    images.rename("fresh", "19/fresh");
    images.remove("19/added.png");
    let expected = with(&["19/fresh/folder/added.png"]);
    wait_until("the folder is moved", || dir.listed(server) == expected);
    images.remove("19/fresh");
    wait_until("the folder is removed", || dir.listed(server) == before);
}

#[test]
fn w9_changes_are_noticed_with_events_with_an_interval_and_confined() {
    for args in ["-r", "-r --watch-interval 50ms", "-r --no-sandbox"] {
        let dir = TestDir::new();
        for n in 0..20 {
            write(&dir, &format!("{n}/{n}.png"), n);
        }
        let server = dir.serve(args);
        assert_followed(&dir, &server);
        server.stop().assert_not_in_err("sub-folder");
    }
}

/// In a user namespace of its own, a process has its own limit.
#[cfg(target_os = "linux")]
#[test]
fn w9_where_watches_run_out_one_warning_says_so_and_the_tree_is_scanned() {
    let dir = TestDir::new();
    for n in 0..20 {
        write(&dir, &format!("{n}/{n}.png"), n);
    }
    let limited = "echo 5 > /proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";
    let probe = ["--user", "--map-root-user", "sh", "-c", limited, "true"];
    let is_possible = dir.command("unshare", &probe).status();
    if !is_possible.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no user namespaces");
        return;
    }
    let server = [SERVER, "--bind", "127.0.0.1:0", "--recursive"];
    let args = [&probe[..5], &server].concat();
    let server = Process::listening(dir.command("unshare", &args));
    let warning = server.err.wait_for("cannot watch a sub-folder");
    assert!(
        warning.contains("fs.inotify.max_user_watches is reached"),
        "{warning}"
    );
    assert_followed(&dir, &server);
    server.stop().assert_not_in_err("cannot watch");
}

#[test]
fn w9_a_folder_that_is_too_deep_is_logged_when_it_appears() {
    let dir = TestDir::new();
    write(&dir, "a.png", 1);
    let server = dir.serve("-r");
    let deep = vec!["d"; 31].join("/");
    write(&dir, &format!("{deep}/ok.png"), 2);
    write(&dir, &format!("{deep}/d/no.png"), 3);
    let line = server
        .err
        .wait_for("a sub-folder is left out of the catalog");
    assert!(line.contains("at most 32 components"), "{line}");
    let expected = ["a.png".to_owned(), format!("{deep}/ok.png")];
    wait_until("the other file is listed", || {
        dir.listed(&server) == expected
    });
}

#[test]
fn w9_n1_a_client_that_watches_fetches_nothing_when_a_folder_is_moved() {
    let dir = TestDir::new();
    for seed in 1..30 {
        write(&dir, &format!("new/{}/{seed}.png", seed % 3), seed);
    }
    let server = dir.serve("-r");
    let client = dir.watch(&server.address, "--batch --out out");
    let line = client.out.next_line();
    assert!(line.starts_with("fetched 29 images"), "{line}");
    let images = dir.path("images");
    images.make_dir("years");
    images.rename("new", "years/2026");
    wait_until("the folder is moved", || {
        let names = dir.listed(&server);
        names.len() == 29 && names.iter().all(|name| name.starts_with("years/2026/"))
    });
    write(&dir, "years/2026/1/later.png", 500);
    let line = client.out.next_line();
    assert!(line.contains("later.png"), "{line}");
    client.end(rustix::process::Signal::TERM).assert_exit(130);
    assert!(dir.path("out/years/2026/1/later.png").is_file());
    assert!(dir.path("out/new/1/1.png").is_file());
}
