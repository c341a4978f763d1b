//! Trees of folders over TLS; several servers of one folder.

use std::fs;

use rustix::process::Signal;

use crate::recursive::write;
use crate::support::{CLIENT, Folder as _, Process, SERVER, TestDir, key_of, tree, wait_until};

#[test]
fn w9_t7_tree_is_mirrored_over_tls() {
    let dir = TestDir::new();
    for number in 0..30 {
        write(&dir, &format!("2023/Rome/{number}.png"), number + 1);
    }
    for number in 30..40 {
        write(&dir, &format!("2024/{number}.png"), number + 1);
    }
    write(&dir, "top.png", 100);
    let server = dir.serve("--recursive --require-tls");
    let pin = key_of(&server);
    let address = format!("jtps://{}", server.address);
    let run = |args: &str| {
        let args = format!("{address} --pin {pin} --mirror {args}");
        dir.run(CLIENT, &args)
    };
    for (out, args) in [("one", ""), ("four", "--parallel 4 -k")] {
        run(&format!("--out {out} {args}"))
            .assert_no_error()
            .assert_summary("fetched 41 images (80.08 KiB); 0 already there; 0 failed");
        assert_eq!(tree(&dir.path(out)), tree(&dir.path("images")), "{out}");
    }

    let images = dir.path("images");
    images.rename("2023/Rome", "2024/Rome");
    fs::remove_dir(images.join("2023")).unwrap();
    images.remove("2024/30.png");
    write(&dir, "2025/new.png", 200);
    let expected = tree(&images);
    wait_until("the change is listed", || {
        let output = run("--out one --dry-run");
        output
            .err
            .contains("30 would be renamed; 1 would be deleted")
            && output.err.contains("would fetch 1 image ")
    });
    for (out, args) in [("one", ""), ("four", "--parallel 4 -k")] {
        run(&format!("--out {out} {args}"))
            .assert_no_error()
            .assert_summary(
                "fetched 1 image (1.95 KiB); 40 already there; 0 failed; 30 renamed; 1 deleted",
            );
        assert_eq!(tree(&dir.path(out)), expected, "{out}");
        assert!(!dir.path(out).join("2023").exists(), "{out}");
    }

    // Most of the tree is removed: nothing is deleted.
    images.remove("2024");
    wait_until("the removal is listed", || {
        let args = format!("--tls --pin {pin} --list");
        dir.fetch(&server, &args).out.lines().count() == 2
    });
    run("--out one")
        .assert_exit(3)
        .assert_in_err("nothing was deleted");
    assert_eq!(tree(&dir.path("one")), expected);
}

#[test]
fn servers_of_one_folder_can_start_at_once_and_list_the_same() {
    const COUNT: usize = 4;
    let dir = TestDir::new();
    for number in 0..40 {
        write(&dir, &format!("{}/{number}.bmp", number % 4), number + 1);
    }
    // They create one certificate, one cache folder and one index.
    let command = || dir.command(SERVER, "--bind 127.0.0.1:0 --recursive");
    let started = [(); COUNT].map(|()| Process::start(command()));
    let mut servers = Vec::from(started.map(Process::with_address));
    let keys: Vec<_> = servers.iter().map(key_of).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let list = |server: &Process| dir.fetch(server, &format!("--pin {} --list", keys[0])).out;
    for (number, server) in servers.iter().enumerate() {
        let out = format!("out{number}");
        dir.fetch(server, &format!("--pin {} --out {out}", keys[0]))
            .assert_no_error();
        assert_eq!(tree(&dir.path(&out)), tree(&dir.path("images")));
    }
    dir.remove("images/0/0.bmp");
    write(&dir, "4/new.bmp", 100);
    for server in &servers {
        wait_until("the change is listed", || {
            let list = list(server);
            list.contains("4/new.bmp") && !list.contains(" 0/0.bmp")
        });
    }
    // The first one does not answer: the catalog of the second one decides.
    let first = servers.remove(0);
    let address = first.address.clone();
    first.signal(Signal::KILL);
    first.wait();
    let args = [
        &*format!("jtps://{address}"),
        &*format!("jtps://{}", servers[0].address),
        "--pin",
        &keys[0],
        "--mirror",
        "--out",
        "out0",
    ];
    dir.run(CLIENT, &args)
        .assert_exit(0)
        .assert_summary("fetched 1 image (1.95 KiB); 39 already there; 0 failed; 1 deleted");
    // What they wrote together is used at the next start.
    for server in servers {
        server.stop().assert_exit(0);
    }
    let server = dir.serve("--recursive");
    assert_eq!(key_of(&server), keys[0]);
    assert_eq!(list(&server).lines().count(), 40);
}
