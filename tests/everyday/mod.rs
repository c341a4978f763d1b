//! Shared helpers: processes whose output lines are awaited, and the content of folders by image.

mod case_names;
mod changing;
mod disk;
mod kills;
mod names;
mod together;
mod user;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::peer::Peer;
use crate::support::process::{Args, Output, Process, WorkDir, wait_until};
use jtp_kit::{Folder, Signal};

/// Prints that a test, or a part of it, needs what this machine lacks; shown with `--nocapture`.
macro_rules! skipped {
    ($($text:tt)*) => { println!("      skipped: {}", format_args!($($text)*)) };
}
pub(crate) use skipped;

/// An image of some kilobytes, different for each seed.
pub(crate) fn picture(seed: u64) -> Vec<u8> {
    noise(3_000 + usize::try_from(seed % 7).unwrap() * 500, seed)
}

/// The content of a folder's visible files, by name.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, u64> {
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    let mut files = BTreeMap::new();
    for entry in entries.map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // A file may go while this reads the folder.
        if let (false, Ok(bytes)) = (name.starts_with('.'), fs::read(entry.path())) {
            files.insert(name, id_of(&bytes));
        }
    }
    files
}

/// Says which of the images are not exactly once among the files; empty if all are.
pub(crate) fn not_exactly_once(
    images: &BTreeMap<String, u64>,
    files: &BTreeMap<String, u64>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, id) in images {
        let names: Vec<_> = files.iter().filter(|(_, of)| *of == id).collect();
        if names.len() != 1 {
            let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
            wrong.push(format!("{name} ({id:016x}) has the files {names:?}"));
        }
    }
    wrong
}

/// The names of images that no file contains.
pub(crate) fn missing<'a>(
    images: &'a BTreeMap<String, u64>,
    files: &BTreeMap<String, u64>,
) -> Vec<&'a str> {
    let there: HashSet<u64> = files.values().copied().collect();
    let missing = images.iter().filter(|(_, id)| !there.contains(id));
    missing.map(|(name, _)| name.as_str()).collect()
}

/// Checks that the output folder has each image of the server exactly once.
#[track_caller]
pub(crate) fn assert_complete(workdir: &WorkDir) {
    let wrong = not_exactly_once(&files(&workdir.images()), &files(&workdir.output()));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Waits until the output folder has each image of the server exactly once.
#[track_caller]
pub(crate) fn await_complete(workdir: &WorkDir, client: &Process) {
    let images = files(&workdir.images());
    let mut wrong = Vec::new();
    let complete = within(|| {
        wrong = not_exactly_once(&images, &files(&workdir.output()));
        wrong.is_empty()
    });
    assert!(complete, "{wrong:#?}{}", client.printed());
}

/// Whether a condition becomes true in time.
pub(crate) fn within(mut condition: impl FnMut() -> bool) -> bool {
    let start = std::time::Instant::now();
    while !condition() {
        if start.elapsed() > std::time::Duration::from_secs(15) {
            return false;
        }
        thread::sleep(std::time::Duration::from_millis(5));
    }
    true
}

/// The catalog of a server, as names and IDs.
#[track_caller]
pub(crate) fn listed(address: SocketAddr) -> BTreeMap<String, u64> {
    let mut peer = Peer::connect(address);
    peer.send([LIST, 0]);
    peer.expect(b"JTPL");
    let count = peer.varint();
    let entries = (0..count).map(|_| {
        let (_, id, name, _) = peer.entry();
        (name, id)
    });
    entries.collect()
}

/// Waits until the server lists exactly the images of its folder.
#[track_caller]
pub(crate) fn await_listed(workdir: &WorkDir, server: &Process) {
    let images = files(&workdir.images());
    wait_until("the server lists its folder", || {
        listed(server.addr()) == images
    });
}

/// Gives a file of the server another name.
pub(crate) fn rename(workdir: &WorkDir, from: &str, to: &str) {
    let images = workdir.images();
    fs::rename(images.join(from), images.join(to)).unwrap();
}

/// Gives files of the server each other's names: the first gets the second's, and so on, the last, if it is there, gets
/// the first's.
pub(crate) fn rotate(workdir: &WorkDir, names: &[impl AsRef<str>]) {
    let images = workdir.images();
    let (last, others) = names.split_last().unwrap();
    let has_last = files(&images).contains_key(last.as_ref());
    if has_last {
        images.rename(last.as_ref(), "../aside");
    }
    for (from, to) in others.iter().zip(&names[1..]).rev() {
        images.rename(from.as_ref(), to.as_ref());
    }
    if has_last {
        images.rename("../aside", names[0].as_ref());
    }
}

/// Starts a program in a process group of its own, which `flock` and `strace` share with the client that they run.
pub(crate) fn start(mut command: Command) -> Process {
    Process::start(std::mem::replace(
        command.process_group(0),
        Command::new(""),
    ))
}

/// Starts a client whose output is read.
pub(crate) fn start_client(
    workdir: &WorkDir,
    address: SocketAddr,
    args: &(impl Args + ?Sized),
) -> Process {
    start(workdir.client_command(address, args))
}

/// Ctrl-C, which ends a client with exit code 130.
#[track_caller]
pub(crate) fn interrupt(client: Process) {
    client.end(Signal::INT).assert_exit(130);
}

/// The command to run `client` by another program: that one with its arguments, before those of the client.
pub(crate) fn wrapped(mut wrapper: Command, client: &Command) -> Command {
    wrapper.arg(client.get_program()).args(client.get_args());
    with_environment_of(client, wrapper)
}

/// The command with the environment and the working folder of another one.
pub(crate) fn with_environment_of(like: &Command, mut command: Command) -> Command {
    command.stdin(Stdio::null());
    command.current_dir(like.get_current_dir().unwrap());
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Runs `client` to its end, which must come soon.
#[track_caller]
pub(crate) fn run(workdir: &WorkDir, address: SocketAddr, args: &(impl Args + ?Sized)) -> Output {
    workdir.client(address, args)
}

/// Checks that a run with `--batch` has nothing to do and leaves the folder as it is. // R8
#[track_caller]
pub(crate) fn assert_nothing_to_do(workdir: &WorkDir, server: &Process) {
    let before = files(&workdir.output());
    let count = files(&workdir.images()).len();
    run(workdir, server.addr(), "--batch").assert_fetched(0, count);
    assert_eq!(files(&workdir.output()), before);
}
