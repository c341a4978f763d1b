//! Clients, each with its own output folder, and what holds for that folder.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jtp_core::FOLDER_SEPARATOR;

use super::server::DEADLINE;
use super::tree::{self, Catalog};
use crate::everyday::start_client;
use crate::support::process::{Output, Process, WorkDir};

/// What a client does: its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(&'static str);

/// Those that watch come first.
pub(super) const KINDS: [Kind; 9] = [
    Kind("--watch --batch"),
    Kind("--watch --mirror"),
    Kind("--batch -k"),
    Kind("--batch -p 4"),
    Kind("--batch --flat"),
    Kind("--batch --keep-existing"),
    Kind("--mirror"),
    Kind(""),
    Kind("-p 4"),
];

impl Kind {
    pub(super) fn has(self, option: &str) -> bool {
        self.0.split(' ').any(|arg| arg == option)
    }

    pub(super) fn watches(self) -> bool {
        self.has("--watch")
    }

    pub(super) fn mirrors(self) -> bool {
        self.has("--mirror")
    }

    fn mirrors_once(self) -> bool {
        self.mirrors() && !self.watches()
    }

    fn fetches_all(self) -> bool {
        !self.has("--batch") && !self.mirrors()
    }

    /// Whether each image gets the name in the list, even if it was there under another one.
    fn follows_names(self) -> bool {
        self.mirrors_once() || self.fetches_all()
    }
}

pub(super) struct Client {
    pub(super) kind: Kind,
    pub(super) name: String,
    args: String,
    pub(super) out: PathBuf,
    backup: Option<PathBuf>,
    pub(super) running: Option<Process>,
    /// The network or the server failed while it ran.
    pub(super) disturbed: bool,
    pub(super) stopped: bool,
    /// The content of the output folder at the last quiet point.
    held: BTreeMap<PathBuf, u64>,
    /// The user's own files in the output folder, and their content.
    pub(super) mine: BTreeMap<PathBuf, Vec<u8>>,
    /// Images that the user removed from the output folder since the client has read the whole list.
    pub(super) harmed: HashSet<u64>,
}

impl Client {
    pub(super) fn new(workdir: &WorkDir, number: usize, kind: Kind, more: &[&str]) -> Client {
        let name = format!("client-{number}");
        let args = format!("{} {} --out {name}", kind.0, more.join(" "));
        let backup = more
            .contains(&"--backup-dir")
            .then(|| workdir.path().join("backup"));
        let out = workdir.path().join(&name);
        fs::create_dir(&out).unwrap();
        Client {
            kind,
            name,
            args,
            out,
            backup,
            running: None,
            disturbed: false,
            stopped: false,
            held: BTreeMap::new(),
            mine: BTreeMap::new(),
            harmed: HashSet::new(),
        }
    }

    pub(super) fn description(&self) -> String {
        format!("{} {}", self.name, self.args)
    }

    pub(super) fn start(&mut self, workdir: &WorkDir, address: SocketAddr) {
        self.disturbed = false;
        self.running = Some(start_client(workdir, address, &self.args));
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        // Dropped, it is killed.
        self.running = None;
        self.stopped = false;
    }

    /// Waits for the end of a run that began while the folder or the network changed.
    pub(super) fn end_disturbed(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        let output = end(running);
        assert!(
            !output.err.contains("panicked"),
            "{}: {output:?}",
            self.description()
        );
        // 3: images failed or nothing was deleted; 4 and 1: the network or the server failed.
        let expected: &[i32] = if self.disturbed {
            &[0, 1, 3, 4]
        } else {
            &[0, 3]
        };
        assert!(
            output.code.is_some_and(|code| expected.contains(&code)),
            "{} ended with {:?}: {output:?}",
            self.description(),
            output.code
        );
    }

    /// Checks what holds at any time: `stable` are images that the server has had since the last quiet point without
    /// any change to their files.
    pub(super) fn check_always(&self, known: &HashSet<u64>, stable: &HashSet<u64>) {
        let content = tree::content(&self.out);
        let ids: HashSet<u64> = content.values().copied().collect();
        let lost = self.held.iter().filter(|(_, id)| {
            stable.contains(id) && !ids.contains(id) && !self.harmed.contains(id)
        });
        let lost: Vec<_> = lost.collect();
        assert!(
            lost.is_empty(),
            "{}: lost {lost:x?} of {content:x?}",
            self.description()
        );
        self.check_backup(&ids);
        self.check_mine();
        for (path, id) in &content {
            let is_known = known.contains(id) || self.mine.contains_key(path);
            assert!(
                is_known,
                "{}: {} never had the content {id:016x}",
                self.description(),
                path.display()
            );
        }
    }

    /// With a backup folder no image goes.
    fn check_backup(&self, ids: &HashSet<u64>) {
        let Some(backup) = &self.backup else { return };
        let kept: HashSet<u64> = tree::content(backup).into_values().collect();
        let gone = self
            .held
            .iter()
            .filter(|(_, id)| !ids.contains(id) && !kept.contains(id) && !self.harmed.contains(id));
        let gone: Vec<_> = gone.collect();
        assert!(
            gone.is_empty(),
            "{}: neither there nor in the backup: {gone:x?}",
            self.description()
        );
    }

    fn check_mine(&self) {
        for (path, bytes) in &self.mine {
            let now = fs::read(self.out.join(path)).ok();
            assert!(
                now.as_ref() == Some(bytes),
                "{}: the user's file {} was changed",
                self.description(),
                path.display()
            );
        }
    }

    /// Hidden files that are not the user's, except the index and the lock of a client that runs.
    fn temporaries(&self) -> Vec<PathBuf> {
        let mut entries = tree::entries(&self.out);
        let is_running = self.running.is_some();
        entries.retain(|path| {
            let is_lock = path
                .extension()
                .is_some_and(|extension| extension == "lock");
            tree::is_hidden(path)
                && path.as_os_str() != ".jtp-index"
                && !(is_running && is_lock)
                && !self.mine.contains_key(path)
        });
        entries
    }

    /// Waits until a watching client has all images but those that the user removed while it ran.
    pub(super) fn await_watched(&mut self, listed: &Catalog, harmed: &HashSet<u64>) {
        let start = std::time::Instant::now();
        loop {
            let ended = self.running.as_mut().is_none_or(Process::has_ended);
            let output = self.running.as_ref().map(Process::printed);
            assert!(!ended, "{} has ended: {output:?}", self.description());
            let ids: HashSet<u64> = tree::content(&self.out).into_values().collect();
            let wanted = |id: &u64| !ids.contains(id) && !harmed.contains(id);
            let missing: Vec<_> = listed.iter().filter(|(_, id)| wanted(id)).collect();
            let left = self.temporaries();
            if missing.is_empty() && left.is_empty() {
                break;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{} misses {missing:x?}, has {left:?}: {}",
                self.description(),
                output.unwrap()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Ctrl-C for a watching client.
    pub(super) fn interrupt(&mut self) {
        let mut running = self.running.take().unwrap();
        // Before that it may not handle signals.
        running.wait_for("watching");
        running.signal(rustix::process::Signal::INT);
        let output = end(running);
        assert_eq!(output.code, Some(130), "{}: {output:?}", self.description());
    }

    /// Runs to the end while nothing changes, and checks the folder. Returns whether all is done: a mirror may have
    /// deleted nothing.
    pub(super) fn run(&mut self, workdir: &WorkDir, address: SocketAddr, listed: &Catalog) -> bool {
        let before = tree::content(&self.out);
        self.start(workdir, address);
        let output = end(self.running.take().unwrap());
        let what = format!("{}: {output:#?}", self.description());
        let kept_all = output.code == Some(3) && self.kind.mirrors_once();
        assert!(output.code == Some(0) || kept_all, "{what}");
        let after = tree::content(&self.out);
        let ids: HashSet<u64> = after.values().copied().collect();
        let missing: Vec<_> = listed.iter().filter(|(_, id)| !ids.contains(id)).collect();
        assert!(
            missing.is_empty(),
            "missing {missing:x?} of {after:x?}: {what}"
        );
        if self.kind.follows_names() {
            self.check_names(listed, &after, &what);
        }
        if kept_all {
            // A file whose name another image has now was replaced.
            let is_gone =
                |(path, id): &(&PathBuf, &u64)| !ids.contains(id) && !after.contains_key(*path);
            let gone: Vec<_> = before.iter().filter(is_gone).collect();
            assert!(gone.is_empty(), "deleted {gone:x?}: {what}");
        } else if self.kind.mirrors_once() {
            let listed: HashSet<u64> = listed.iter().map(|(_, id)| *id).collect();
            // An empty file stays: another program may be about to write it.
            let empty = jtp_core::ImageId::of(b"").0;
            let is_extra = |path: &Path, id: &u64| {
                *id != empty && !listed.contains(id) && !self.mine.contains_key(path)
            };
            let extra = after.iter().filter(|(path, id)| is_extra(path, id));
            let extra: Vec<_> = extra.collect();
            assert!(extra.is_empty(), "not deleted {extra:x?}: {what}");
        }
        let left = self.temporaries();
        assert!(left.is_empty(), "temporary files {left:?}: {what}");
        self.check_counts(&before, listed, &output);
        self.check_backup(&ids);
        self.check_mine();
        self.harmed.clear();
        self.held = after;
        !kept_all
    }

    /// The last line says what was fetched.
    fn check_counts(&self, before: &BTreeMap<PathBuf, u64>, listed: &Catalog, output: &Output) {
        let held: HashSet<u64> = before.values().copied().collect();
        let new = listed
            .iter()
            .filter(|(_, id)| self.kind.fetches_all() || !held.contains(id));
        let new = new.count();
        let last = output.out.lines().last().unwrap_or_default();
        let images = if new == 1 { "image" } else { "images" };
        let expected = format!("fetched {new} {images} (");
        assert!(
            last.starts_with(&expected) && last.contains("; 0 failed"),
            "{}: expected {expected:?} of {} images: {output:#?}",
            self.description(),
            listed.len()
        );
    }

    /// A second run changes nothing. // R8
    pub(super) fn run_again(&mut self, workdir: &WorkDir, address: SocketAddr, listed: &Catalog) {
        let before = tree::state(&self.out);
        let _ = self.run(workdir, address, listed);
        let after = tree::state(&self.out);
        let index = Path::new(".jtp-index");
        let without_index = |state: BTreeMap<PathBuf, String>| -> BTreeMap<_, _> {
            state
                .into_iter()
                .filter(|(path, _)| path != index)
                .collect()
        };
        assert_eq!(
            without_index(after),
            without_index(before),
            "{}: the second run changed the folder",
            self.description()
        );
    }

    /// Notes the content of the folder at a quiet point.
    pub(super) fn settle(&mut self) {
        self.held = tree::content(&self.out);
    }

    fn check_names(&self, listed: &Catalog, content: &BTreeMap<PathBuf, u64>, what: &str) {
        for (path, id) in certain_paths(listed, self.kind.has("--flat")) {
            // The user's own file, folder or link there stays.
            if self
                .mine
                .keys()
                .any(|mine| mine.starts_with(&path) || path.starts_with(mine))
            {
                continue;
            }
            // So do images that are no longer listed, in a folder with this name or under the name of a folder of this
            // path, unless a mirror deletes them.
            let is_in_the_way = |other: &PathBuf| {
                *other != path && (other.starts_with(&path) || path.starts_with(other))
            };
            if !self.kind.mirrors_once() && content.keys().any(is_in_the_way) {
                continue;
            }
            assert!(
                content.get(&path) == Some(&id),
                "{} is not {id:016x}, but {:x?}: {what}",
                path.display(),
                content.get(&path)
            );
        }
    }
}

/// The names that no rule changes, as paths.
fn certain_paths(listed: &Catalog, flat: bool) -> Vec<(PathBuf, u64)> {
    let paths = listed.iter().map(|(name, id)| {
        let separator = if flat { '\0' } else { FOLDER_SEPARATOR };
        (name.split(separator).collect::<PathBuf>(), *id)
    });
    let paths: Vec<_> = paths.collect();
    // The spellings of each path and of each folder on the way.
    let mut spellings = HashMap::<String, HashSet<(PathBuf, bool)>>::new();
    let mut uses = HashMap::<String, usize>::new();
    let lower = |path: &Path| path.to_str().unwrap().to_lowercase();
    for (path, _) in &paths {
        for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
            let spelling = (part.to_owned(), part == path);
            spellings.entry(lower(part)).or_default().insert(spelling);
        }
        *uses.entry(lower(path)).or_default() += 1;
    }
    let is_certain = |path: &Path| {
        let mut parts = path.ancestors().filter(|part| !part.as_os_str().is_empty());
        uses[&lower(path)] == 1
            && parts.all(|part| spellings[&lower(part)].len() == 1)
            && path.to_str().unwrap().is_ascii()
            && jtp_store::has_image_extension(path.file_name().unwrap().to_str().unwrap())
    };
    paths
        .into_iter()
        .filter(|(path, _)| is_certain(path))
        .collect()
}

/// Waits for the end of a client, for longer than the client waits for a server.
fn end(mut running: Process) -> Output {
    let start = std::time::Instant::now();
    while !running.has_ended() {
        assert!(
            start.elapsed() < DEADLINE * 3,
            "the client does not end: {}",
            running.printed()
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    running.wait()
}
