//! R8 (a): clients that are killed while they rename files and fetch.

use std::collections::HashSet;

use super::*;
use crate::support::proxy::Proxy;

const MODES: [&[&str]; 3] = [&["--batch"], &["--batch", "-k"], &["--batch", "-p", "3"]];

/// The number of images whose names move by one.
const CHAIN: u64 = 8;

/// A server that has shifted the names of a chain by one, to put a new image in front of it; has given the name of
/// another image to a new one; and has new images.
fn library() -> WorkDir {
    let workdir = WorkDir::of(&[]);
    for n in 0..CHAIN {
        workdir.add(&format!("chain-{}.png", n + 1), &picture(n));
    }
    workdir.add("chain-0.png", &picture(300));
    workdir.add("moved.png", &picture(100));
    workdir.add("taken.png", &picture(301));
    workdir.add("lower.png", &picture(101));
    workdir.add("LOWER.png", &picture(302));
    for n in 0..12 {
        workdir.add(&format!("new-{n}.png"), &noise(40_000, 400 + n));
    }
    workdir
}

/// The output folder of the time before those changes.
fn fill_output(workdir: &WorkDir) {
    let _ = fs::remove_dir_all(workdir.output());
    fs::create_dir(workdir.output()).unwrap();
    let put = |name: &str, seed| fs::write(workdir.output().join(name), picture(seed)).unwrap();
    for n in 0..CHAIN {
        put(&format!("chain-{n}.png"), n);
    }
    put("taken.png", 100);
    put("LOWER.png", 101);
    put("gone-from-the-server.png", 102);
}

/// Checks the folder after a kill: nothing that it had is lost, and each visible file is a complete image.
#[track_caller]
fn check(workdir: &WorkDir, what: &str) {
    let held: HashSet<u64> = (0..CHAIN)
        .chain(100..103)
        .map(|n| id_of(&picture(n)))
        .collect();
    let images: HashSet<u64> = files(&workdir.images()).into_values().collect();
    let output = files(&workdir.output());
    let visible: HashSet<u64> = output.values().copied().collect();
    let lost: Vec<_> = held.difference(&visible).collect();
    assert!(
        lost.is_empty(),
        "{what}: {} images are lost: {output:?}",
        lost.len()
    );
    for (name, id) in &output {
        assert!(
            held.contains(id) || images.contains(id),
            "{what}: {name} is no image"
        );
    }
}

/// The next run completes, and the one after it has nothing to do.
#[track_caller]
fn complete(workdir: &WorkDir, server: &ServerProcess, what: &str) {
    let output = run(workdir, server.address, &["--batch"]);
    assert_eq!(output.code, Some(0), "{what}: {output:?}");
    check(workdir, what);
    let wrong = not_exactly_once(&files(&workdir.images()), &files(&workdir.output()));
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
    assert_eq!(temporaries(&workdir.output()), [""; 0], "{what}");
    assert_nothing_to_do(workdir, server);
}

#[test]
fn r8_a_client_killed_while_it_fetches_and_renames_loses_no_image() {
    let workdir = library();
    let server = workdir.server(&["--no-tls"]);
    fill_output(&workdir);
    run(&workdir, server.address, &["--batch"]).assert_fetched(15, 10);
    check(&workdir, "no kill");
    let list = list_of(&crate::support::files::images_in(&workdir.images())).len() as u64;
    let first = picture(300).len() as u64;
    // In the LIST, at its end, in the first images, at the end of each, and in later ones.
    let moments = [
        1,
        list / 2,
        list,
        list + 20,
        list + first,
        list + first + 40,
    ]
    .into_iter();
    let moments = moments.chain((1..20).map(|n| list + first + n * 24_000));
    let mut killed = 0;
    for (n, moment) in moments.enumerate() {
        let args = MODES[n % MODES.len()];
        let what = format!("{args:?} killed after {moment} bytes");
        fill_output(&workdir);
        let proxy = Proxy::start(server.address, moment);
        let mut client = Running::client(&workdir, proxy.address, args);
        let reached = within(|| proxy.is_spent() || client.has_ended());
        assert!(reached, "{what}: {}", client.output());
        if !client.has_ended() {
            client.signal(Signal::KILL);
            killed += 1;
        }
        client.end();
        check(&workdir, &what);
        complete(&workdir, &server, &what);
    }
    assert!(killed >= 20, "{killed}");
}

#[test]
fn r8_a_client_killed_at_each_change_of_the_folder_loses_no_image() {
    let mut trace = Command::new("strace");
    trace.args(["-f", "-qq", "-o", "/dev/null", "true"]);
    if !trace
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        skipped!("strace does not work here");
        return;
    }
    let workdir = library();
    let server = workdir.server(&["--no-tls"]);
    let mut killed = 0;
    // Each thread counts its own calls.
    for calls in ["renameat,renameat2,rename", "linkat", "unlinkat"] {
        for (n, when) in [1, 2, 3, 4, 5, 6, 8, 10, 13].into_iter().enumerate() {
            fill_output(&workdir);
            let args = MODES[n % MODES.len()];
            let what = format!("{args:?} killed at {calls} {when}");
            let client = workdir.command("client", &[]);
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
            command.arg(format!("trace={calls}")).arg("-e");
            command.arg(format!("inject={calls}:signal=KILL:when={when}"));
            command.arg(client.get_program());
            command
                .args(["--addr", &server.address.to_string()])
                .args(args);
            command.current_dir(workdir.path()).stdin(Stdio::null());
            command.env("HOME", workdir.path());
            let code = Running::start(command).end().code;
            check(&workdir, &what);
            if code == Some(0) {
                break;
            }
            killed += 1;
            complete(&workdir, &server, &what);
        }
    }
    assert!(killed > 5, "{killed}");
}
