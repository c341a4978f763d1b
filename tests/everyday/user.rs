//! R8 (e): the user changes the output folder while the client runs. What is there decides before anything is replaced.

use super::*;
use crate::support::files::images_in;
use crate::support::proxy::Proxy;

/// Over one connection, so that the images arrive in the order of the catalog. // S5
const MODES: [&str; 2] = ["--batch", "--batch -k"];

/// A change that the user makes while the first image arrives, and images that are in the folder after it, by their names
/// in the server's folder.
type UserChange = (&'static str, fn(&Path), &'static [&'static str]);

const CHANGES: [UserChange; 10] = [
    (
        "the file to be replaced is renamed",
        |folder| folder.rename("a.jpg", "mine.jpg"),
        &["b.jpg", "c.png"],
    ),
    (
        "the file to be replaced is deleted",
        |folder| folder.remove("a.jpg"),
        &["c.png"],
    ),
    (
        "the only copy of another image takes the place of the file to be replaced",
        |folder| folder.rename("c.png", "a.jpg"),
        &["c.png"],
    ),
    (
        "the file to be replaced is overwritten in place by another image of the server",
        |folder| {
            folder.write("a.jpg", picture(3));
            folder.remove("c.png");
        },
        &["c.png"],
    ),
    (
        "the only copy of an image takes the name of one to be fetched",
        |folder| folder.rename("c.png", "e.png"),
        &["b.jpg", "c.png"],
    ),
    (
        "the file to be kept takes the name of one to be fetched",
        |folder| folder.rename("a.jpg", "e.png"),
        &["b.jpg", "c.png"],
    ),
    (
        "the only copy takes a case variant of a name to be fetched",
        |folder| folder.rename("c.png", "E.PNG"),
        &["b.jpg", "c.png"],
    ),
    (
        "two files change places",
        |folder| {
            folder.rename("a.jpg", "x.jpg");
            folder.rename("c.png", "a.jpg");
            folder.rename("x.jpg", "c.png");
        },
        &["b.jpg", "c.png"],
    ),
    (
        "a folder takes the name of an image to be fetched",
        |folder| {
            folder.make_dir("e.png");
            folder.write("e.png/note.txt", "mine");
        },
        &["b.jpg", "c.png"],
    ),
    (
        "a picture of the user takes the place of the file to be replaced",
        |folder| {
            folder.rename("a.jpg", "old.jpg");
            folder.write("a.jpg", picture(77));
        },
        &["b.jpg", "c.png"],
    ),
];

/// A server whose `a.jpg` is new and whose old one is `b.jpg` now. `0.png` comes first and is long.
fn library() -> WorkDir {
    let workdir = WorkDir::of(&[]);
    workdir.add("0.png", &noise(400_000, 9));
    workdir.add("a.jpg", &picture(1));
    workdir.add("b.jpg", &picture(2));
    workdir.add("c.png", &picture(3));
    workdir.add("e.png", &picture(4));
    workdir
}

fn fill_output(workdir: &WorkDir) {
    workdir.output().make_dir("");
    workdir.output().write("a.jpg", picture(2));
    workdir.output().write("c.png", picture(3));
}

#[test]
fn r8_changes_by_the_user_during_a_run_lose_no_image() {
    let workdir = library();
    let server = workdir.server("--no-tls");
    let images = files(&workdir.images());
    // The folder has been scanned when images begin to arrive.
    let first_image = list_of(&images_in(&workdir.images())).len() as u64 + 100_000;
    for (what, change, kept) in &CHANGES {
        for args in MODES {
            fill_output(&workdir);
            let proxy = Proxy::start(server.addr(), first_image);
            let mut client = start_client(&workdir, proxy.address, args);
            let reached = within(|| proxy.is_spent());
            assert!(
                reached && !client.has_ended(),
                "{what}: {}",
                client.printed()
            );
            change(&workdir.output());
            proxy.open(server.addr());
            let output = client.wait();
            let what = format!("{what}, {args:?}: {output:?}");
            output.assert_exit(0);
            let output = files(&workdir.output());
            let absent = missing(&images, &output);
            let came = ["0.png", "a.jpg", "e.png"];
            let lost = absent
                .iter()
                .filter(|name| kept.contains(name) || came.contains(name));
            let lost: Vec<_> = lost.collect();
            assert!(
                lost.is_empty(),
                "{lost:?} are lost or did not come: {what}: {output:?}"
            );
            // What the user deleted comes with the next run.
            run(&workdir, server.addr(), "--batch").assert_exit(0);
            // (A file that the user renamed may have been fetched under its old name.)
            let missing = missing(&images, &files(&workdir.output()));
            assert!(missing.is_empty(), "{missing:?}: {what}");
            assert_nothing_to_do(&workdir, &server);
            fs::remove_dir_all(workdir.output()).unwrap();
        }
    }
}
