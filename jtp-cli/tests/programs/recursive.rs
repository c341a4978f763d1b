//! `server --recursive` shares a tree, and the client makes its folders again. // W9

use std::fs;
use std::path::Path;

use crate::support::{Folder as _, Process, SERVER, TestDir, noise, tree, wait_until};

pub(crate) fn write(dir: &TestDir, path: &str, seed: u64) {
    let path = dir.path("images").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, noise(2_000, seed)).unwrap();
}

/// The names in the catalog as the client prints them, with `/` between folders, sorted.
fn listed(dir: &TestDir, server: &Process) -> Vec<String> {
    let output = dir.fetch(server, "--list --sort name");
    output.assert_exit(0);
    let last_word = |line: &str| line.split_whitespace().last().unwrap().to_owned();
    let mut names: Vec<_> = output.out.lines().map(last_word).collect();
    names.sort();
    names
}

/// The files below a folder, by path, without hidden ones.
fn files(folder: &Path) -> Vec<String> {
    tree(folder).into_keys().collect()
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
    assert_eq!(listed(&dir, &server), ["c.png"]);
    server.stop().assert_in_err("share them with --recursive");
    for flag in ["--recursive", "-r"] {
        let server = dir.serve(&[flag]);
        assert_eq!(listed(&dir, &server), paths);
        server
            .stop()
            .assert_not_in_err("--recursive")
            .assert_in_err("1 hidden file or folder (.thumbnails)")
            .assert_in_err("1 link that leads to no file that is shared (link)");
    }
    let server = dir.serve("-r");
    dir.fetch(&server, "--out out").assert_exit(0);
    assert_eq!(files(&dir.path("out")), paths);
    for path in paths {
        let (sent, got) = (dir.path("images").join(path), dir.path("out").join(path));
        assert_eq!(fs::read(sent).unwrap(), fs::read(got).unwrap());
    }
}

#[test]
fn w9_a_folder_that_is_moved_under_another_is_listed_there() {
    let dir = TestDir::new();
    for seed in 1..40 {
        write(&dir, &format!("new/{seed}.png"), seed);
    }
    write(&dir, "years/old.png", 100);
    let server = dir.serve("-r");
    let images = dir.path("images");
    images.rename("new", "years/2026");
    wait_until("the folder is listed in its new place", || {
        let names = listed(&dir, &server);
        names.len() == 40 && names.iter().all(|name| name.starts_with("years/"))
    });
    // A folder that is made while the server runs, and one that is removed.
    write(&dir, "a/b/c/d.png", 200);
    images.remove("years");
    wait_until("only the new file is listed", || {
        listed(&dir, &server) == ["a/b/c/d.png"]
    });
    dir.fetch(&server, "--out out").assert_exit(0);
    assert_eq!(files(&dir.path("out")), ["a/b/c/d.png"]);
}

#[test]
fn w9_filters_go_by_the_path_below_the_folder() {
    let dir = TestDir::new();
    for (seed, path) in (1..).zip(["2024/Rome/a.png", "2024/b.png", "2025/a.png", "c.png"]) {
        write(&dir, path, seed);
    }
    for (args, expected) in [
        ("--only rome/", &["2024/Rome/a.png"][..]),
        ("--include /2024/**", &["2024/Rome/a.png", "2024/b.png"]),
        ("--exclude a.png", &["2024/b.png", "c.png"]),
        ("--exclude 2024/**", &["2025/a.png", "c.png"]),
    ] {
        let server = dir.serve(&format!("-r {args}"));
        assert_eq!(listed(&dir, &server), expected, "{args:?}");
    }
}

#[test]
fn w9_a_link_in_place_of_a_folder_is_not_followed() {
    let dir = TestDir::new();
    write(&dir, "a/secret.png", 1);
    write(&dir, "b.png", 2);
    let images = dir.path("images");
    let outside = dir.path("outside");
    fs::create_dir(&outside).unwrap();
    outside.write("secret.png", noise(2_000, 3));
    let server = dir.serve("-r");
    assert_eq!(listed(&dir, &server), ["a/secret.png", "b.png"]);
    fs::rename(images.join("a"), dir.path("before")).unwrap();
    images.link(&outside, "a");
    let fetched = dir.fetch(&server, "--out out");
    assert!(matches!(fetched.code, Some(0 | 3)), "{fetched:?}");
    assert!(!dir.path("out/a/secret.png").exists());
    wait_until("the file is not listed", || {
        listed(&dir, &server) == ["b.png"]
    });
}

/// Whether each way to change a tree is noticed.
fn assert_followed(dir: &TestDir, server: &Process) {
    let before = listed(dir, server);
    let images = dir.path("images");
    write(dir, "19/added.png", 900);
    write(dir, "fresh/folder/added.png", 901);
    let mut expected = [
        before.clone(),
        vec!["19/added.png".into(), "fresh/folder/added.png".into()],
    ]
    .concat();
    expected.sort();
    wait_until("both files are listed", || listed(dir, server) == expected);
    images.rename("fresh", "19/fresh");
    images.remove("19/added.png");
    let mut expected = [before.clone(), vec!["19/fresh/folder/added.png".into()]].concat();
    expected.sort();
    wait_until("the folder is moved", || listed(dir, server) == expected);
    images.remove("19/fresh");
    wait_until("the folder is removed", || listed(dir, server) == before);
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
fn w9_a_folder_that_cannot_be_read_is_logged_once_and_the_others_go_on() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TestDir::new();
    write(&dir, "open/a.png", 1);
    write(&dir, "closed/b.png", 2);
    let closed = dir.path("images/closed");
    let set_mode = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
    let server = dir.serve("-r --watch-interval 20ms");
    set_mode(0);
    if fs::read_dir(&closed).is_ok() {
        eprintln!("skipped: this user reads everything");
        return set_mode(0o700);
    }
    server
        .err
        .wait_for("a sub-folder is left out of the catalog");
    wait_until("its file is not listed", || {
        listed(&dir, &server) == ["open/a.png"]
    });
    write(&dir, "open/c.png", 3);
    wait_until("others are", || {
        listed(&dir, &server) == ["open/a.png", "open/c.png"]
    });
    let output = server.stop();
    set_mode(0o700);
    output.assert_not_in_err("a sub-folder is left out");
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
        listed(&dir, &server) == expected
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
        let names = listed(&dir, &server);
        names.len() == 29 && names.iter().all(|name| name.starts_with("years/2026/"))
    });
    write(&dir, "years/2026/1/later.png", 500);
    let line = client.out.next_line();
    assert!(line.contains("later.png"), "{line}");
    client.end(rustix::process::Signal::TERM).assert_exit(130);
    assert!(dir.path("out/years/2026/1/later.png").is_file());
    assert!(dir.path("out/new/1/1.png").is_file());
}
