//! Shared helpers: processes whose output lines are awaited, and the content of folders by image.

mod case_names;
mod changing;
mod disk;
mod kills;
mod late;
mod locks;
mod names;
mod together;
mod user;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::peer::Peer;
use crate::support::process::{ProgramOutput, ServerProcess, WorkDir, wait_until};

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

/// The names of hidden files, except the index.
pub(crate) fn temporaries(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with('.') && name != ".jtp-index")
        .collect()
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
pub(crate) fn await_complete(workdir: &WorkDir, client: &Running) {
    let images = files(&workdir.images());
    let mut wrong = Vec::new();
    let complete = within(|| {
        wrong = not_exactly_once(&images, &files(&workdir.output()));
        wrong.is_empty()
    });
    assert!(complete, "{wrong:#?}{}", client.output());
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
pub(crate) fn await_listed(workdir: &WorkDir, server: &ServerProcess) {
    let images = files(&workdir.images());
    wait_until("the server lists its folder", || {
        listed(server.address) == images
    });
}

/// Gives a file of the server another name.
pub(crate) fn rename(workdir: &WorkDir, from: &str, to: &str) {
    let images = workdir.images();
    fs::rename(images.join(from), images.join(to)).unwrap();
}

/// Gives files of the server each other's names: the first gets the second's, and so on, the last gets the first's.
pub(crate) fn rotate(workdir: &WorkDir, names: &[&str]) {
    let aside = workdir.path().join("aside");
    let (last, others) = names.split_last().unwrap();
    fs::rename(workdir.images().join(last), &aside).unwrap();
    for (from, to) in others.iter().zip(&names[1..]).rev() {
        rename(workdir, from, to);
    }
    fs::rename(aside, workdir.images().join(names[0])).unwrap();
}

/// The lines that a process has printed so far.
type Lines = Arc<Mutex<Vec<String>>>;

/// A running `client` whose output is read.
pub(crate) struct Running {
    child: Child,
    out: Lines,
    err: Lines,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn client(workdir: &WorkDir, address: SocketAddr, args: &[&str]) -> Running {
        Running::start(client_command(workdir, address, args))
    }

    pub(crate) fn start(mut command: Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, which `flock` and `strace` share with the client that they run.
        command.process_group(0);
        let mut child = command.spawn().unwrap();
        let mut readers = Vec::new();
        let out = lines(child.stdout.take().unwrap(), &mut readers);
        let err = lines(child.stderr.take().unwrap(), &mut readers);
        Running {
            child,
            out,
            err,
            readers,
        }
    }

    /// What it has printed so far.
    pub(crate) fn output(&self) -> String {
        let join = |lines: &Lines| lines.lock().unwrap().join("\n");
        format!("\nstdout: {}\nstderr: {}", join(&self.out), join(&self.err))
    }

    /// Waits until it has printed a line that contains this.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, word: &str) {
        let has = |lines: &Lines| lines.lock().unwrap().iter().any(|l| l.contains(word));
        let (out, err) = (Arc::clone(&self.out), Arc::clone(&self.err));
        let mut ended = false;
        let found = within(|| {
            let found = has(&out) || has(&err);
            ended = !found && self.has_ended();
            found || ended
        });
        assert!(found && !ended, "no {word:?}: {}", self.output());
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> ProgramOutput {
        let ended = within(|| self.has_ended());
        assert!(ended, "the client does not end: {}", self.output());
        let status = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let text = |lines: &Lines| lines.lock().unwrap().join("\n");
        ProgramOutput {
            code: status.code().or(status.signal().map(|signal| -signal)),
            out: text(&self.out),
            err: text(&self.err),
        }
    }

    /// Ctrl-C, which ends the client with exit code 130.
    #[track_caller]
    pub(crate) fn interrupt(self) {
        self.signal(Signal::INT);
        let output = self.end();
        assert_eq!(output.code, Some(130), "{output:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

fn lines(stream: impl Read + Send + 'static, readers: &mut Vec<JoinHandle<()>>) -> Lines {
    let lines = Lines::default();
    let shared = Arc::clone(&lines);
    readers.push(thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            shared.lock().unwrap().push(line);
        }
    }));
    lines
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

/// The command that runs `client` with these arguments.
pub(crate) fn client_command(workdir: &WorkDir, address: SocketAddr, args: &[&str]) -> Command {
    let address = address.to_string();
    workdir.command("client", &[&["--addr", &*address], args].concat())
}

/// Runs `client` to its end, which must come soon.
#[track_caller]
pub(crate) fn run(workdir: &WorkDir, address: SocketAddr, args: &[&str]) -> ProgramOutput {
    Running::client(workdir, address, args).end()
}

/// Checks that a run with `--batch` has nothing to do and leaves the folder as it is. // R8
#[track_caller]
pub(crate) fn assert_nothing_to_do(workdir: &WorkDir, server: &ServerProcess) {
    let before = files(&workdir.output());
    let count = files(&workdir.images()).len();
    run(workdir, server.address, &["--batch"]).assert_fetched(0, count);
    assert_eq!(files(&workdir.output()), before);
}
