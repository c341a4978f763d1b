//! R8: two clients that fill one folder at the same time.

use super::*;

fn library() -> WorkDir {
    let workdir = WorkDir::of(&[]);
    for n in 0..30 {
        workdir.add(&format!("{n:02}.png"), &picture(n));
    }
    workdir
}

/// The output folder of the time before the server gave each image's name to the next one, and the first name to a new
/// image. Every third image is missing.
fn fill_output(workdir: &WorkDir) {
    let _ = fs::remove_dir_all(workdir.output());
    fs::create_dir(workdir.output()).unwrap();
    for n in (1..30).filter(|n| n % 3 > 0) {
        fs::write(
            workdir.output().join(format!("{:02}.png", n - 1)),
            picture(n),
        )
        .unwrap();
    }
}

#[test]
fn r8_two_clients_at_once_lose_no_image() {
    let workdir = library();
    let server = workdir.server("--no-tls");
    for (modes, is_empty) in [
        (["--batch", "--batch"], true),
        (["", ""], true),
        (["-p 4", "--batch -k"], true),
        (["--batch -p 3", ""], true),
        (["--batch", "--batch"], false),
        (["--batch -p 3", "--batch -k"], false),
    ] {
        for _ in 0..if is_empty { 1 } else { 4 } {
            if !is_empty {
                fill_output(&workdir);
            }
            let clients = modes.map(|args| start_client(&workdir, server.addr(), args));
            for client in clients {
                client.wait().assert_exit(0);
            }
            let (images, output) = (files(&workdir.images()), files(&workdir.output()));
            let lost = missing(&images, &output);
            assert!(lost.is_empty(), "{modes:?}: {lost:?} are lost: {output:?}");
            assert!(!is_empty || output == images, "{modes:?}: {output:?}");
            assert_eq!(workdir.output().temporaries(), [""; 0], "{modes:?}");
            // A run on its own has nothing to fetch.
            run(&workdir, server.addr(), "--batch").assert_fetched(0, images.len());
            assert_nothing_to_do(&workdir, &server);
            workdir.path().remove("output");
        }
    }
}

#[test]
fn r8_a_run_beside_a_watching_client_loses_no_image() {
    let workdir = library();
    let server = workdir.server("--no-tls");
    fill_output(&workdir);
    let mut watching = start_client(&workdir, server.addr(), "--watch --batch");
    watching.wait_for("watching");
    assert_complete(&workdir);
    for round in 0..4 {
        rename(&workdir, "00.png", &format!("moved-{round}.png"));
        await_listed(&workdir, &server);
        workdir.add("00.png", &picture(100 + round));
        await_listed(&workdir, &server);
        run(&workdir, server.addr(), "--batch").assert_exit(0);
        let images = files(&workdir.images());
        let arrived = within(|| missing(&images, &files(&workdir.output())).is_empty());
        assert!(arrived, "{}", watching.printed());
    }
    interrupt(watching);
    let count = files(&workdir.images()).len();
    run(&workdir, server.addr(), "--batch").assert_fetched(0, count);
    assert_nothing_to_do(&workdir, &server);
}
