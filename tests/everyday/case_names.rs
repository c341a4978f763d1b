//! R5 R8: names in the output folder that differ only in case or in their Unicode form.

use super::*;

/// A permutation of the numbers below `count`, different for each seed.
fn permutation(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let random = noise(count, seed);
    for n in (1..count).rev() {
        order.swap(n, usize::from(random[n]) % (n + 1));
    }
    order
}

/// Runs over output folders that have the images `0..names.len()` under these names, in different orders. The server
/// has those images under `listed` names, and new images under the names `new`.
#[track_caller]
fn no_run_loses_an_image(names: &[&str], listed: &[&str], new: &[&str]) {
    assert_eq!(names.len(), listed.len());
    let workdir = WorkDir::of(&[]);
    for (n, name) in (0..).zip(listed) {
        workdir.add(name, &picture(n));
    }
    for (n, name) in (500..).zip(new) {
        workdir.add(name, &picture(n));
    }
    let server = workdir.server("--no-tls");
    for (seed, args) in (0..).zip(["--batch", "--batch -k", "--batch -p 3"].repeat(4)) {
        fs::create_dir(workdir.output()).unwrap();
        let images = permutation(names.len(), seed);
        for n in permutation(names.len(), seed + 100) {
            let image = u64::try_from(images[n]).unwrap();
            fs::write(workdir.output().join(names[n]), picture(image)).unwrap();
        }
        let output = run(&workdir, server.addr(), args);
        let wrong = not_exactly_once(&files(&workdir.images()), &files(&workdir.output()));
        assert!(
            wrong.is_empty(),
            "seed {seed}, {args}: {wrong:#?}\n{output:?}"
        );
        output.assert_fetched(new.len(), listed.len());
        assert_nothing_to_do(&workdir, &server);
        fs::remove_dir_all(workdir.output()).unwrap();
    }
}

#[test]
fn r8_files_whose_names_differ_only_in_case_are_kept_in_any_order() {
    let names = ["photo.jpg", "Photo.jpg", "PHOTO.JPG", "photo.JPG"];
    let others = ["one.jpg", "two.jpg", "three.jpg", "four.jpg"];
    no_run_loses_an_image(&names, &others, &["photo.jpg"]);
    let each_others = ["Photo.jpg", "PHOTO.JPG", "photo.JPG", "other.jpg"];
    no_run_loses_an_image(&names, &each_others, &["photo.jpg", "OTHER.jpg"]);
}

#[test]
fn r8_files_whose_names_fold_to_each_other_or_are_in_nfd_are_kept_in_any_order() {
    // ß folds to ss, and so do SS and ſ twice.
    let folded = ["straße.jpg", "STRASSE.jpg", "ſtraſſe.jpg", "straẞe.jpg"];
    let others = ["one.jpg", "two.jpg", "three.jpg", "Strasse.jpg"];
    no_run_loses_an_image(&folded, &others, &["straße.jpg"]);
    let in_nfc_and_nfd = [
        "\u{e9}t\u{e9}.jpg",
        "e\u{301}te\u{301}.jpg",
        "\u{c9}T\u{c9}.jpg",
        "e\u{301}t\u{e9}.jpg",
    ];
    no_run_loses_an_image(&in_nfc_and_nfd, &others, &["\u{e9}t\u{e9}.jpg"]);
}

#[test]
fn r5_names_of_the_server_that_differ_only_in_case_are_all_stored() {
    let names = [
        "photo.jpg",
        "Photo.jpg",
        "PHOTO.JPG",
        "photo.JPG",
        "straße.png",
        "STRASSE.png",
        "ſtrasse.png",
    ];
    let workdir = WorkDir::of(&[]);
    for (n, name) in (0..).zip(names) {
        workdir.add(name, &picture(n));
    }
    let server = workdir.server("--no-tls");
    for args in [&[][..], &["--batch"], &["-k"], &["-p", "4"]] {
        let output = run(&workdir, server.addr(), args);
        output.assert_fetched(names.len(), 0);
        assert_complete(&workdir);
        assert_nothing_to_do(&workdir, &server);
        // Fetching everything once more changes no name.
        let before = files(&workdir.output());
        run(&workdir, server.addr(), "").assert_fetched(names.len(), 0);
        assert_eq!(files(&workdir.output()), before, "{args:?}");
        fs::remove_dir_all(workdir.output()).unwrap();
    }
}
