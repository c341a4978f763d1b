//! Images in an object store: `--images URL`. The backend is a folder; it goes through the same code as a bucket.

use crate::support::{ALL, Folder as _, Output, Process, SERVER, TestDir, wait_until};

fn url(dir: &TestDir) -> String {
    format!("file://{}", dir.path("images").display())
}

#[test]
fn images_of_an_object_store_are_indexed_once_and_served() {
    let dir = TestDir::with_images();
    dir.make_dir("images/2024");
    dir.rename("images/a.png", "images/2024/a.png");
    let args = ["--images", &url(&dir), "--index-only"];
    dir.run(SERVER, &args)
        .assert_exit(0)
        .assert_in_err("3 objects, 3 read, 3 changes");
    dir.run(SERVER, &args)
        .assert_in_err("3 objects, 0 read, 0 changes");
    let server = dir.serve(&["--images", &url(&dir)]);
    let fetched = dir.fetch(&server, "--out out");
    fetched.assert_success(ALL);
    assert_eq!(dir.files("out/2024"), dir.files("images/2024"));
}

#[test]
fn errors_of_an_object_store_name_the_cause_and_the_remedy() {
    let dir = TestDir::with_images();
    let missing = format!("file://{}", dir.path("missing").display());
    dir.add("file", b"");
    let file = format!("file://{}", dir.path("images/file").display());
    let correct = "correct the URL of --images";
    let with_filter = format!("{} --only a", url(&dir));
    for (args, words) in [
        (&*missing, ["missing", correct]),
        (&file, ["not a directory", correct]),
        (
            "http://host/a",
            ["http://host/a", "expected s3://BUCKET/PREFIX"],
        ),
        ("s3://", ["s3://", "names no bucket"]),
        (&with_filter, ["--only", "cannot be used"]),
        (
            "images --index-only",
            ["--index-only", "is for images in an object store"],
        ),
        (
            "images --store-cache-size 1G",
            ["--store-cache-size", "is for images in an object store"],
        ),
    ] {
        dir.run(SERVER, &format!("--images {args}"))
            .assert_failure(1, &words);
    }
    let mut command = dir.command(SERVER, &["--images", "s3://photos/2024", "--index-only"]);
    // Port 1 refuses connections.
    let unreachable = command
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .env("AWS_ACCESS_KEY_ID", "a")
        .env("AWS_SECRET_ACCESS_KEY", "b");
    Output::of(unreachable).assert_failure(1, &["s3://photos/2024", "check the network"]);
    dir.make_dir(".aws");
    dir.write(".aws/config", "[profile work]\nsso_session = x\n");
    let export = "aws configure export-credentials --profile work";
    for (profile, words) in [
        ("work", ["single sign-on", export]),
        ("other", ["the AWS profile other", "is neither in"]),
    ] {
        let mut command = dir.command(SERVER, &["--images", "s3://photos", "--index-only"]);
        let command = command
            .env("HOME", dir.path(""))
            .env("AWS_PROFILE", profile);
        for variable in [
            "AWS_ACCESS_KEY_ID",
            "AWS_SHARED_CREDENTIALS_FILE",
            "AWS_CONFIG_FILE",
        ] {
            command.env_remove(variable);
        }
        Output::of(command).assert_failure(1, &words);
    }
}

#[test]
fn s12_cached_images_of_an_object_store_are_sent_when_it_has_them_no_longer() {
    let dir = TestDir::with_images();
    let expected = dir.files("images");
    let serve = |size: &str| {
        let url = url(&dir);
        let args = format!("--images {url} --store-cache-size {size}");
        let never = "--no-tls --watch-interval 3600 --bind 127.0.0.1:0";
        let mut command = dir.command(SERVER, &format!("{args} {never} --cache-dir cache"));
        command.env("RUST_LOG", "warn,jtp_object_store=debug");
        Process::listening(command)
    };
    let server = serve("10MiB");
    server.err.wait_for("the bucket was listed");
    dir.fetch(&server, "--out first").assert_no_error();
    let copies = || {
        let names = dir.names("cache/images");
        names
            .iter()
            .filter(|name| name.ends_with(".image1"))
            .count()
    };
    wait_until("the images are cached", || copies() == 3);
    // Nothing lists the bucket from now on.
    let move_all = |from: &str, to: &str| {
        dir.make_dir(to);
        for (name, _) in &expected {
            std::fs::rename(dir.path(from).join(name), dir.path(to).join(name)).unwrap();
        }
    };
    move_all("images", "moved");
    dir.fetch(&server, "--out second").assert_no_error();
    assert_eq!(dir.files("second"), expected);
    drop(server);

    move_all("moved", "images");
    // After SIGKILL; with a size for one of the images.
    let server = serve("100KiB");
    assert!(copies() <= 2);
    dir.fetch(&server, "--out third").assert_no_error();
    assert_eq!(dir.files("third"), expected);
    drop(server);

    dir.remove("cache/images");
    dir.write("cache/images", b"");
    let server = serve("10MiB");
    server.err.wait_for("cannot use the cache folder");
    dir.fetch(&server, "--out fourth").assert_no_error();
    assert_eq!(dir.files("fourth"), expected);
    let log = server.stop().err;
    assert!(!log.contains("cache folder"), "warned again: {log}");
}

#[test]
fn a_server_that_ends_gives_up_the_lease() {
    let dir = TestDir::with_images();
    let server = dir.serve(&["--no-tls", "--images", &url(&dir)]);
    let lease = dir.path("images/.jtp/v1/lease");
    wait_until("the server indexes", || lease.exists());
    server.stop();
    // A folder has no conditional updates: the lease is deleted.
    assert!(!lease.exists());
}
