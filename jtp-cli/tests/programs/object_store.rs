//! Images in an object store: `--images URL`. The backend is a folder; it goes through the same code as a bucket.

use crate::support::{SERVER, TestDir};

fn url(dir: &TestDir) -> String {
    format!("file://{}", dir.path("images").display())
}

#[test]
fn images_of_an_object_store_are_indexed_once_and_served() {
    let dir = TestDir::with_images();
    std::fs::create_dir(dir.path("images/2024")).unwrap();
    std::fs::rename(dir.path("images/a.png"), dir.path("images/2024/a.png")).unwrap();
    let args = ["--images", &url(&dir), "--index-only"];
    let indexed = dir.run(SERVER, &args);
    assert_eq!(indexed.code, Some(0), "{indexed:?}");
    assert!(
        indexed.err.contains("3 objects, 3 read, 3 changes"),
        "{indexed:?}"
    );
    let again = dir.run(SERVER, &args);
    assert!(
        again.err.contains("3 objects, 0 read, 0 changes"),
        "{again:?}"
    );
    let server = dir.serve(&["--images", &url(&dir)]);
    let fetched = dir.fetch(&server, &["--out", "out"]);
    fetched.assert_success("fetched 3 images (198.24 KiB); 0 already there; 0 failed");
    assert_eq!(dir.files("out/2024"), dir.files("images/2024"));
}

#[test]
fn errors_of_an_object_store_name_the_cause_and_the_remedy() {
    let dir = TestDir::with_images();
    let missing = format!("file://{}", dir.path("missing").display());
    dir.add("file", b"");
    let file = format!("file://{}", dir.path("images/file").display());
    for (url, words) in [
        (missing.as_str(), ["missing", "correct the URL of --images"]),
        (
            file.as_str(),
            ["not a directory", "correct the URL of --images"],
        ),
        (
            "http://host/a",
            ["expected s3://BUCKET/PREFIX", "http://host/a"],
        ),
        ("s3://", ["names no bucket", "s3://"]),
    ] {
        dir.run(SERVER, &["--images", url])
            .assert_failure(1, &words);
    }
    let mut command = dir.command(SERVER, &["--images", "s3://photos/2024", "--index-only"]);
    // Port 1 refuses connections.
    let unreachable = command
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .env("AWS_ACCESS_KEY_ID", "a")
        .env("AWS_SECRET_ACCESS_KEY", "b");
    let output = crate::support::ProcessOutput::of(unreachable);
    output.assert_failure(1, &["s3://photos/2024", "check the network"]);
    let refused = dir.run(SERVER, &["--images", &url(&dir), "--only", "a"]);
    refused.assert_failure(1, &["--only cannot be used"]);
    let folder = dir.run(SERVER, &["--index-only"]);
    folder.assert_failure(1, &["--index-only is for images in an object store"]);
}
