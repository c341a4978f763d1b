//! The random walk of one seed.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;

use super::client::{Client, KINDS, Kind};
use super::server::Server;
use super::tree::{self, Catalog};
use super::user::User;
use crate::support::process::WorkDir;
use jtp_kit::Rng;

pub(super) struct Walk {
    seed: u64,
    rounds: u64,
    rng: Rng,
    // Processes end before their folders go.
    server: Server,
    clients: Vec<Client>,
    user: User,
    workdir: WorkDir,
    listed: Catalog,
    log: Vec<String>,
    start: Instant,
    steps: usize,
    own_files: u64,
}

impl Walk {
    pub(super) fn new(seed: u64, rounds: u64) -> Walk {
        let mut rng = Rng::new(seed);
        let memory = Path::new("/dev/shm");
        let in_memory = rng.percent(50) && memory.is_dir();
        let folder = if in_memory {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let workdir = WorkDir::in_folder(&folder, &[]);
        let outside = workdir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("bait.png"), "not yours").unwrap();
        let aside = workdir.path().join("aside");
        fs::create_dir(&aside).unwrap();
        let mut user = User::new(workdir.images(), aside, outside.join("bait.png"));
        for _ in 0..rng.below(15) {
            user.step(&mut rng);
        }
        let mut args = Vec::new();
        for (chance, arg) in [
            (85, "--recursive"),
            (30, "--no-tls"),
            (10, "--watch-interval=1"),
        ] {
            if rng.percent(chance) {
                args.push(arg);
            }
        }
        if std::env::var_os("JTP_LIFE_VERBOSE").is_some() {
            args.push("-vv");
        }
        let server = Server::start(&workdir, args.clone());
        let mut walk = Walk {
            seed,
            rounds,
            rng,
            server,
            clients: Vec::new(),
            user,
            workdir,
            listed: Catalog::new(),
            log: Vec::new(),
            start: Instant::now(),
            steps: 0,
            own_files: 0,
        };
        walk.note(&format!(
            "server {} in {}",
            args.join(" "),
            walk.workdir.path().display()
        ));
        let mut kinds = KINDS.to_vec();
        for number in 0..3 {
            let kind = match number {
                0 => *walk.rng.pick(&KINDS[..2]),
                _ => kinds.swap_remove(walk.rng.below(kinds.len())),
            };
            walk.add_client(number, kind);
        }
        walk
    }

    fn add_client(&mut self, number: usize, kind: Kind) {
        let mut more = Vec::new();
        if self.server.tls && self.rng.percent(50) {
            more.push("--tls");
        }
        let may_have_backup = !kind.has("--keep-existing");
        // One backup folder for all: names meet there.
        if may_have_backup && self.rng.percent(if kind.mirrors() { 70 } else { 20 }) {
            more.extend(["--backup-dir", "backup"]);
        }
        if kind.mirrors() && self.rng.percent(60) {
            more.extend(["--max-delete", "100%"]);
        }
        let client = Client::new(&self.workdir, number, kind, &more);
        self.note(&client.description());
        self.clients.push(client);
    }

    fn note(&mut self, what: &str) {
        self.log
            .push(format!("{:8.3} {what}", self.start.elapsed().as_secs_f64()));
    }

    /// Returns the number of steps.
    pub(super) fn run(mut self) -> usize {
        for round in 0..self.rounds {
            for _ in 0..1 + self.rng.below(14) {
                self.step();
                self.steps += 1;
                // Some steps follow each other at once, others while programs react.
                if self.rng.percent(60) {
                    let pause = self.rng.next() % 60;
                    thread::sleep(Duration::from_millis(pause));
                }
            }
            self.rest();
            self.note(&format!("round {round} is complete"));
        }
        for client in &mut self.clients {
            client.kill();
        }
        self.server.end();
        self.steps
    }

    fn step(&mut self) {
        let chance = self.rng.below(100);
        let what = match chance {
            0..70 => self.user.step(&mut self.rng),
            70..78 => self.start_client(),
            78..84 => self.change_output(),
            84..90 => self.disturb_client(),
            90..95 => self.disturb_network(),
            _ => self.disturb_server(),
        };
        self.note(&what);
    }

    fn client(&mut self) -> usize {
        self.rng.below(self.clients.len())
    }

    fn start_client(&mut self) -> String {
        let at = self.client();
        let client = &mut self.clients[at];
        if client.running.is_none() {
            client.start(&self.workdir, self.server.address());
            client.disturbed = !self.server.is_running();
            return format!("starts {}", client.name);
        }
        format!("{} runs", client.name)
    }

    fn disturb_client(&mut self) -> String {
        let at = self.client();
        let choice = self.rng.below(3);
        let client = &mut self.clients[at];
        let name = client.name.clone();
        let Some(running) = client.running.as_mut().filter(|_| choice > 0) else {
            client.kill();
            return format!("kills {name}");
        };
        if running.has_ended() {
            return format!("{name} has ended");
        }
        let (signal, what) = match client.stopped {
            true => (Signal::CONT, "continues"),
            false => (Signal::STOP, "stops"),
        };
        running.signal(signal);
        client.stopped = !client.stopped;
        format!("{what} {name}")
    }

    fn disturb_all(&mut self) {
        for client in &mut self.clients {
            client.disturbed = true;
        }
    }

    fn disturb_network(&mut self) -> String {
        self.disturb_all();
        if self.rng.percent(30) {
            self.server.cut();
            return "cuts all connections".to_owned();
        }
        let bytes = self.rng.next() % 60_000;
        self.server.cut_after(bytes);
        format!("cuts all connections after {bytes} bytes")
    }

    fn disturb_server(&mut self) -> String {
        self.disturb_all();
        let what = match (self.server.is_running(), self.rng.below(4)) {
            (false, _) => {
                self.server.restore(&self.workdir);
                "starts the server"
            }
            (true, 0) => {
                self.server.kill();
                "kills the server"
            }
            (true, 1) => {
                self.server.end();
                "ends the server"
            }
            (true, 2) => {
                self.server.stop();
                "stops the server"
            }
            (true, _) => {
                self.server.go_on();
                "continues the server"
            }
        };
        what.to_owned()
    }

    /// The user works in an output folder, whatever the client does there.
    fn change_output(&mut self) -> String {
        let at = self.client();
        self.own_files += 1;
        let number = self.own_files;
        let client = &mut self.clients[at];
        let mut files = tree::files(&client.out);
        files.retain(|path| !client.mine.contains_key(path));
        let Some(path) = self.rng.pick_any(&files) else {
            return format!("{} is empty", client.name);
        };
        let full = client.out.join(&path);
        let folder = path.parent().unwrap();
        let shown = format!("{}/{}", client.name, path.display());
        // The client may rename or replace the file meanwhile: what the user takes is what is there then.
        let aside = self.workdir.path().join("aside/taken");
        let take = || {
            fs::rename(&full, &aside).ok()?;
            let id = super::pictures::id_of_file(&aside);
            let _ = fs::remove_file(&aside);
            id
        };
        match self.rng.below(5) {
            0 => {
                let own = folder.join(format!("notes-{number}.txt"));
                let text = format!("mine {number}").into_bytes();
                if fs::write(client.out.join(&own), &text).is_ok() {
                    client.mine.insert(own, text);
                }
                format!("writes notes beside {shown}")
            }
            1 => {
                client.harmed.extend(take());
                format!("deletes {shown}")
            }
            2 => {
                let own = folder.join(format!("own-{number}.png"));
                let _ = fs::rename(&full, client.out.join(&own));
                format!("renames {shown} to {own:?}")
            }
            3 => {
                let bytes = self.user.picture(&mut self.rng);
                fs::write(&aside, &bytes).unwrap();
                let exchanged = renameat_with(CWD, &aside, CWD, &full, RenameFlags::EXCHANGE);
                if exchanged.is_ok() {
                    client.harmed.extend(super::pictures::id_of_file(&aside));
                    if client.kind.has("--keep-existing") {
                        client.mine.insert(path, bytes);
                    }
                }
                fs::remove_file(aside).unwrap();
                format!("replaces {shown} by a picture of the user")
            }
            _ => {
                client.harmed.extend(take());
                let text = b"mine".to_vec();
                let own = path.join("note.txt");
                let made = fs::create_dir(&full);
                let made = made.and_then(|()| fs::write(full.join("note.txt"), &text));
                if made.is_ok() {
                    client.mine.insert(own, text);
                }
                format!("replaces {shown} by a folder")
            }
        }
    }

    /// A quiet point: waits until the programs have nothing to do, and checks everything.
    fn rest(&mut self) {
        self.user.finish();
        let images = tree::state(&self.workdir.images());
        self.server.restore(&self.workdir);
        for client in &mut self.clients {
            if std::mem::take(&mut client.stopped) {
                client.running.as_ref().unwrap().signal(Signal::CONT);
            }
            if client.kind.watches() {
                continue;
            }
            client.end_disturbed();
        }
        let (listed, time) = self.server.await_catalog(&self.workdir);
        self.note(&format!(
            "the server lists {} images after {time:?}",
            listed.len()
        ));
        let stable = self.stable(&listed);
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if client.kind.watches() {
                let mut harmed = client.harmed.clone();
                if client.running.is_none() {
                    client.start(&self.workdir, self.server.address());
                    harmed.clear();
                }
                client.await_watched(&listed, &harmed);
                client.check_always(&self.user.known, &stable);
                client.settle();
                client.harmed = harmed;
            } else {
                client.check_always(&self.user.known, &stable);
            }
            if !client.kind.watches() {
                let is_done = client.run(&self.workdir, self.server.address(), &listed);
                // The limit of --max-delete is a share of the images before the run: the next one may delete.
                if is_done && self.rng.percent(30) {
                    client.run_again(&self.workdir, self.server.address(), &listed);
                }
            } else if self.rng.percent(20) {
                client.interrupt();
            }
            let client = &mut self.clients[at];
            client.check_always(&self.user.known, &HashSet::new());
            client.settle();
        }
        self.server.check_use(self.clients.len());
        assert_eq!(
            tree::state(&self.workdir.images()),
            images,
            "the server's folder"
        );
        self.check_outside();
        self.listed = listed;
        self.user.touched.clear();
    }

    /// The images that the server has had since the last quiet point, in files that nobody touched.
    fn stable(&self, listed: &Catalog) -> HashSet<u64> {
        let both: HashSet<u64> = self
            .listed
            .intersection(listed)
            .map(|(_, id)| *id)
            .collect();
        let content = tree::content(&self.workdir.images());
        let untouched = content
            .iter()
            .filter(|(path, id)| both.contains(id) && !self.user.is_touched(path));
        untouched.map(|(_, id)| *id).collect()
    }

    /// Nothing but the output folders, the cache and the certificate is made or changed.
    fn check_outside(&self) {
        let entries = fs::read_dir(self.workdir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let expected = "images aside outside backup cache cert.pem key.pem server.log";
        let is_expected = |name: &String| {
            name.starts_with("client-") || expected.split(' ').any(|other| other == name)
        };
        let others: Vec<String> = names.filter(|name| !is_expected(name)).collect();
        assert!(others.is_empty(), "in the working folder: {others:?}");
        let outside = tree::state(&self.workdir.path().join("outside"));
        let names: BTreeMap<&PathBuf, &String> = outside.iter().collect();
        assert!(
            names.len() == 1
                && fs::read(self.workdir.path().join("outside/bait.png")).unwrap() == b"not yours",
            "outside: {names:?}"
        );
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        println!("--- steps");
        for line in &self.log {
            println!("{line}");
        }
        let log = fs::read_to_string(self.workdir.server_log()).unwrap_or_default();
        println!("--- the server's log\n{log}---");
        println!(
            "seed {} fails; again: JTP_SEED={} JTP_LIFE_ROUNDS={} cargo test -p jtp-tests --test everyday life:: -- --nocapture",
            self.seed, self.seed, self.rounds
        );
        let keep = std::env::var_os("JTP_LIFE_KEEP").is_some();
        self.workdir.keep(keep);
        if keep {
            println!("folders: {}", self.workdir.path().display());
        }
    }
}
