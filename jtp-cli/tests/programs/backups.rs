//! `--backup-dir` that cannot be used: only the images that need it are affected. // R8

use std::fs;
use std::os::unix::fs::symlink;

use jtp_core::ImageId;

use crate::support::{Folder as _, TestDir, noise};

/// Makes what is in the place of the backup folder; `false` if that is not possible here.
type Prepare = fn(&TestDir) -> bool;

const UNUSABLE: &[(&str, Prepare)] = &[
    ("bk", |dir| fs::write(dir.path("bk"), b"file").is_ok()),
    ("bk/sub", |dir| fs::write(dir.path("bk"), b"file").is_ok()),
    ("bk", |dir| symlink("bk", dir.path("bk")).is_ok()),
    // Nothing can be created there, by root either.
    ("/proc/jtp-backups", |_| {
        fs::create_dir("/proc/jtp-backups").is_err()
    }),
    ("bk", |dir| {
        dir.make_dir("bk");
        dir.set_mode("bk", 0o500);
        !rustix::process::geteuid().is_root()
    }),
];

#[test]
fn r8_backup_folder_that_cannot_be_used_keeps_only_the_files_that_need_it() {
    for job in ["--batch", "--mirror"] {
        for (number, (backup, prepare)) in (0..).zip(UNUSABLE) {
            let dir = TestDir::new();
            for n in 0..12 {
                dir.add(&format!("{n:02}.png"), &noise(500, n));
            }
            let server = dir.serve("--no-tls");
            dir.fetch(&server, "--batch").assert_no_error();
            if !prepare(&dir) {
                continue;
            }
            let old = dir.read("output/00.png");
            dir.add("00.png", &noise(500, 100));
            dir.add("new.png", &noise(500, 101));
            dir.remove("images/01.png");
            server.stop();
            let server = dir.serve("--no-tls");
            let output = dir.fetch(&server, &[job, "--backup-dir", backup]);
            let case = format!("{job} {number}: {output:?}");
            assert_eq!(output.code, Some(8), "{case}");
            assert_eq!(dir.read("output/00.png"), old, "{case}");
            let stored: Vec<_> = dir.files("output").into_iter().map(|(_, id)| id).collect();
            for seed in [1, 100, 101] {
                assert!(stored.contains(&ImageId::of(&noise(500, seed))), "{case}");
            }
            assert!(output.err.contains("--backup-dir"), "{case}");
            assert!(!output.err.contains("--out"), "{case}");
            server.stop();
        }
    }
}
