//! Trees of folders over TLS; servers that are killed while they send their catalog; several servers of one folder.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;

use rustix::process::Signal;

use crate::recursive::write;
use crate::support::{
    CLIENT, Folder as _, Output, Process, SERVER, TestDir, key_of, noise, tree, wait_until,
};

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

/// Forwards a connection to a server, kills the server when it has sent some bytes, and closes. Later connections are
/// refused, like those to the server itself.
struct KillingProxy {
    address: String,
}

impl KillingProxy {
    fn new(server: Process, limit: usize) -> KillingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let upstream = TcpStream::connect(&server.address).unwrap();
            let mut from = client.try_clone().unwrap();
            let mut to = upstream.try_clone().unwrap();
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let limit = u64::try_from(limit).unwrap();
            let sent = std::io::copy(&mut upstream.take(limit), &mut &client).unwrap();
            assert_eq!(sent, limit, "the server closed first");
            server.signal(Signal::KILL);
            server.wait();
            client.shutdown(std::net::Shutdown::Both).unwrap();
        });
        KillingProxy { address }
    }
}

/// A server whose catalog has some 60 KB, and a folder `output` with images that it lacks and some that it renamed.
fn large_catalog(dir: &TestDir) {
    dir.make_dir("output");
    for number in 0..300 {
        let name = format!("{}-{number}.png", "n".repeat(190));
        dir.add(&name, &noise(100, number + 1));
    }
    for number in 250..350 {
        let path = dir.path(&format!("output/{number}.png"));
        fs::write(path, noise(100, number + 1)).unwrap();
    }
}

#[test]
fn r6_server_that_is_killed_while_it_sends_the_catalog_costs_no_file() {
    let dir = TestDir::new();
    large_catalog(&dir);
    let before = tree(&dir.path("output"));
    const MIRROR: &str = "--mirror --max-delete 100%";
    let all: &[(&str, bool)] = &[
        (MIRROR, false),
        (MIRROR, true),
        ("--batch", false),
        ("--check", false),
        ("--list", false),
    ];
    for (tls, limit, jobs) in [
        (false, 5, &all[..1]),
        (false, 20_000, all),
        (true, 20_000, &all[..1]),
    ] {
        for (job, json) in jobs.iter().copied() {
            let server = dir.serve("");
            let pin = key_of(&server);
            let proxy = KillingProxy::new(server, limit);
            let mut args = format!("--addr {} --retries 0 {job}", proxy.address);
            if tls {
                args += &format!(" --pin {pin}");
            }
            if json {
                args += " --json";
            }
            let output: Output = dir.run(CLIENT, &args);
            if job == "--check" && limit > 5 {
                // It compares what has arrived, as a fetch does.
                output.assert_exit(3);
                output.assert_in_err("the catalog is incomplete");
                assert!(!output.out.contains("extra  "), "{output:?}");
                continue;
            }
            output.assert_failure(4, &[&proxy.address]);
            assert_eq!(tree(&dir.path("output")), before, "{args:?}");
            if json {
                let last: serde_json::Value =
                    serde_json::from_str(output.out.lines().last().unwrap()).unwrap();
                assert_eq!(last["event"], "error");
                assert_eq!(last["exit_code"], 4);
            }
            let deletes_none = output.err.contains("nothing was deleted");
            assert_eq!(deletes_none, limit > 5 && job == MIRROR, "{output:?}");
        }
    }
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
    let mut servers: Vec<Process> = (0..COUNT).map(|_| Process::start(command())).collect();
    let mut keys = Vec::new();
    for server in &mut servers {
        let line = server.out.next_line();
        let address = line.strip_prefix("listening on ");
        server.address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
        keys.push(key_of(server));
    }
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
