//! R8: images of the server that change their names while new images take the old ones.

use super::*;

/// One kind of change of names: a prefix of the files, the files at the beginning, renames, and the names that new images
/// get after them. In each rename a file gets the next name, and that with the last name gets the first one.
type Change = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

const CHANGES: [Change; 6] = [
    ("moved-", &["a.jpg"], &["a.jpg > b.jpg"], &["a.jpg"]),
    (
        "swapped-",
        &["a.jpg", "b.jpg", "c.jpg"],
        &["a.jpg > b.jpg", "c.jpg > d.jpg"],
        &["c.jpg"],
    ),
    (
        "rotated-",
        &["a.jpg", "b.jpg", "c.jpg"],
        &["a.jpg > b.jpg > c.jpg", "a.jpg > d.jpg", "b.jpg > e.jpg"],
        &["a.jpg", "b.jpg"],
    ),
    (
        "case-",
        &["a.jpg", "b.jpg"],
        &["a.jpg > A.jpg", "b.jpg > B.JPG"],
        &["a.jpg", "b.jpg"],
    ),
    (
        "chain-",
        &["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
        &[
            "d.jpg > e.jpg",
            "c.jpg > d.jpg",
            "b.jpg > c.jpg",
            "a.jpg > b.jpg",
        ],
        &["a.jpg"],
    ),
    (
        "suffix-",
        &["a.jpg", "b.png"],
        &["a.jpg > b.png", "a.jpg > a (1).jpg"],
        &["a.jpg", "a (2).jpg"],
    ),
];

/// A server's folder with the files of all kinds of changes.
fn library() -> WorkDir {
    let workdir = WorkDir::of(&[]);
    let mut seed = 0;
    for (prefix, files, _, _) in &CHANGES {
        for file in *files {
            seed += 1;
            workdir.add(&format!("{prefix}{file}"), &picture(seed));
        }
    }
    workdir.add("unchanged.png", &picture(99));
    workdir
}

fn rename_all(workdir: &WorkDir) {
    for (prefix, _, renames, _) in &CHANGES {
        for step in *renames {
            let names = step.split(" > ");
            let names: Vec<_> = names.map(|name| format!("{prefix}{name}")).collect();
            rotate(workdir, &names);
        }
    }
}

/// Adds new images under names that others had before.
fn add_all(workdir: &WorkDir, mut seed: u64) {
    for (prefix, _, _, added) in &CHANGES {
        for file in *added {
            seed += 1;
            workdir.add(&format!("{prefix}{file}"), &picture(seed));
        }
    }
}

fn watch(workdir: &WorkDir, server: &Process, args: &str) -> Process {
    let mut client = start_client(workdir, server.addr(), &format!("--watch {args}"));
    client.wait_for("watching");
    client
}

/// Waits until a client has all images, ends it, and checks that the next one has nothing to do.
#[track_caller]
fn complete(workdir: &WorkDir, server: &Process, client: Process) {
    await_complete(workdir, &client);
    interrupt(client);
    assert_nothing_to_do(workdir, server);
}

#[test]
fn r8_watch_loses_no_image_whose_name_a_new_one_takes() {
    for args in ["--batch", ""] {
        let workdir = library();
        let server = workdir.server("--no-tls");
        let client = watch(&workdir, &server, args);
        assert_complete(&workdir);
        rename_all(&workdir);
        await_listed(&workdir, &server);
        add_all(&workdir, 200);
        complete(&workdir, &server, client);
    }
}

#[test]
fn r8_watch_restarted_between_rename_and_new_image_loses_none() {
    let workdir = library();
    let server = workdir.server("--no-tls");
    run(&workdir, server.addr(), "--batch").assert_exit(0);
    rename_all(&workdir);
    await_listed(&workdir, &server);
    let before = files(&workdir.images());
    // All images are there, under other names than the server's.
    let client = watch(&workdir, &server, "--batch");
    assert_eq!(missing(&before, &files(&workdir.output())), [""; 0]);
    add_all(&workdir, 200);
    complete(&workdir, &server, client);
    // Another round, on files that were kept under other names.
    let client = watch(&workdir, &server, "--batch -k");
    rotate(
        &workdir,
        &["moved-a.jpg", "moved-b.jpg", "chain-a.jpg", "chain-b.jpg"],
    );
    rename(&workdir, "moved-a.jpg", "moved-c.jpg");
    await_listed(&workdir, &server);
    workdir.add("moved-a.jpg", &picture(300));
    complete(&workdir, &server, client);
}

#[test]
fn r8_watch_killed_while_new_images_take_the_names_of_others_loses_none() {
    let workdir = library();
    let server = workdir.server("--no-tls");
    run(&workdir, server.addr(), "--batch").assert_exit(0);
    for round in 0..6 {
        let client = watch(&workdir, &server, "--batch");
        // The names of all images move by one, and a new image takes the first of them.
        let images = files(&workdir.images());
        let names: Vec<&str> = images.keys().map(String::as_str).collect();
        rotate(&workdir, &names);
        let free = format!("new-{round}.png");
        rename(&workdir, names[0], &free);
        await_listed(&workdir, &server);
        let held = files(&workdir.images());
        workdir.add(names[0], &picture(600 + round));
        // The kill follows the first change of the folder.
        let before = files(&workdir.output());
        assert!(within(|| files(&workdir.output()) != before));
        client.end(Signal::KILL).assert_exit(-9);
        assert_eq!(missing(&held, &files(&workdir.output())), [""; 0]);
        run(&workdir, server.addr(), "--batch").assert_exit(0);
        assert_complete(&workdir);
        assert_nothing_to_do(&workdir, &server);
    }
}

#[test]
fn r8_changes_while_the_client_is_off_lose_no_image() {
    for args in ["--batch", "--batch -k", "--batch -p 4", ""] {
        let workdir = library();
        let server = workdir.server("--no-tls");
        run(&workdir, server.addr(), args).assert_exit(0);
        rename_all(&workdir);
        add_all(&workdir, 200);
        await_listed(&workdir, &server);
        let (images, output) = (files(&workdir.images()), workdir.output());
        let added: usize = CHANGES.iter().map(|(_, _, _, added)| added.len()).sum();
        let result = run(&workdir, server.addr(), args);
        if args.is_empty() {
            // Each image has its name; others that differ in case may be there too.
            result.assert_fetched(images.len(), 0);
            let fetched = files(&output);
            let plain = images.iter().filter(|(name, _)| !name.starts_with("case-"));
            for (name, id) in plain {
                assert_eq!(fetched.get(name), Some(id), "{name}");
            }
            assert_eq!(missing(&images, &fetched), [""; 0]);
        } else {
            result.assert_fetched(added, images.len() - added);
            assert_complete(&workdir);
        }
        assert_nothing_to_do(&workdir, &server);
    }
}
