//! A cache folder in which another user has put links to the victim's files, and a pipe in place of the index.

use std::fs;
use std::path::{Path, PathBuf};

use jtp_kit::Folder;

use super::HonestClient;
use crate::support::bytes::id_of;
use crate::support::process::WorkDir;

const VICTIM: &[u8] = b"a file of the victim, which nobody may cut";

/// Prepares `folder` as a cache folder, with links to `victim`.
fn prepare(workdir: &WorkDir, folder: &Path, victim: &Path) {
    let images = workdir.images().canonicalize().unwrap();
    let key = [images.as_os_str().as_encoded_bytes(), b"\0"].concat();
    let index = format!("index/{:016x}", id_of(&key));
    folder.make_dir("index");
    folder.make_dir("forms");
    folder.link(victim, "forms/used1");
    folder.link(victim, format!("{index}.part"));
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let fifo = rustix::fs::FileType::Fifo;
    let pipe = folder.join(index);
    rustix::fs::mknodat(rustix::fs::CWD, pipe, fifo, mode, 0).unwrap();
}

/// Runs a server with this cache folder, and returns its warnings about that.
fn serve(workdir: &WorkDir, cache: &Path) -> Vec<String> {
    let args = ["--no-tls", "--compression-threshold", "0.9", "--cache-dir"];
    let server = workdir.server(&[&args[..], &[cache.to_str().unwrap()]].concat());
    HonestClient::of(&server, workdir).fetch();
    drop(server);
    let log = fs::read_to_string(workdir.path().join("server.log")).unwrap();
    let is_warning = |line: &&str| line.contains("cache folder") && line.contains("WARN");
    log.lines().filter(is_warning).map(str::to_owned).collect()
}

/// A folder of images, and a victim's file.
fn workdir() -> (WorkDir, PathBuf) {
    let workdir = WorkDir::of(&[]);
    workdir.add("a.png", b"a picture");
    let victim = workdir.path().join("victim");
    fs::write(&victim, VICTIM).unwrap();
    (workdir, victim)
}

#[test]
fn links_and_a_pipe_in_a_cache_folder_harm_nobody() {
    // Others can write to the folder itself, to one of its sub-folders, or to none.
    for shared in [Some(""), Some("index"), Some("forms"), None] {
        let (workdir, victim) = workdir();
        let cache = workdir.path().join("cache");
        prepare(&workdir, &cache, &victim);
        for folder in ["", "index", "forms"] {
            let mode = if shared == Some(folder) { 0o777 } else { 0o700 };
            cache.set_mode(folder, mode);
        }
        let warnings = serve(&workdir, &cache);
        assert_eq!(fs::read(&victim).unwrap(), VICTIM, "{shared:?}");
        assert!(victim.symlink_metadata().unwrap().is_file());
        let says_what_to_do =
            |line: &String| line.contains("other users can write") && line.contains("chmod go-w");
        assert!(warnings.iter().all(says_what_to_do), "{warnings:?}");
        let is_noticed = !matches!(shared, Some("forms") | None);
        assert_eq!(warnings.len(), usize::from(is_noticed), "{warnings:?}");
        if shared.is_none() {
            let used = fs::symlink_metadata(cache.join("forms/used1")).unwrap();
            assert!(
                used.is_file() && used.len() == 16,
                "a file replaces the link"
            );
        }
    }
}
