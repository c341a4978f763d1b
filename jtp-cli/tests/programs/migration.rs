//! Runs the commands of docs/migration.md: ours, and those of rsync, rclone and wget where they are installed. With
//! `JTP_ALL_TOOLS`, as in CI, they have to be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::readme::{console_commands, page};
use crate::support::{
    CLIENT, Folder as _, Output, Process, TestDir, Tree, copy_program, key_of, noise, stamps, tree,
    wait_until,
};

/// The machine `nas` with its folder `photos`, and the machine `here`, on which the commands are run.
struct Machines {
    dir: TestDir,
    server: Process,
    /// The `sha256:` line of the server.
    key: String,
    /// The web server on `nas`, if Python is installed.
    web: Option<Process>,
}

impl Machines {
    fn new(serve: &str) -> Machines {
        let dir = TestDir::new();
        add_pictures(&dir.path("nas/photos"));
        dir.make_dir("here");
        // What SSH does: a command on the other machine.
        let ssh = "#!/bin/sh\nshift\ncd '@nas' && exec \"$@\"\n";
        let nas = dir.path("nas").to_str().unwrap().to_owned();
        write_script(&dir.path("ssh"), &ssh.replace("@nas", &nas));
        let server = Machines::serve(&dir, serve);
        let key = key_of(&server);
        // As copied to this machine.
        fs::copy(dir.path("nas/cert.pem"), dir.path("here/cert.pem")).unwrap();
        let web = is_installed("python3").then(|| {
            let args = "-u -m http.server 0 --bind 127.0.0.1 --directory nas";
            Process::start(dir.command("python3", args))
        });
        let web = web.map(|mut web| {
            // As in `Serving HTTP on 127.0.0.1 port 1 (http://127.0.0.1:1/) ...`.
            let line = web.out.next_line();
            web.address = line.split(['(', ')']).nth(1).unwrap().to_owned();
            web
        });
        Machines {
            dir,
            server,
            key,
            web,
        }
    }

    fn serve(dir: &TestDir, command: &str) -> Process {
        let args: Vec<&str> = command.split_whitespace().skip(1).collect();
        let mut server = dir.server_command("127.0.0.1:0", &args);
        server.current_dir(dir.path("nas"));
        Process::listening(server)
    }

    fn photos(&self) -> PathBuf {
        self.dir.path("here/photos")
    }

    /// Runs a command of the page as a shell does. `None` if the program is not installed.
    fn run(&self, command: &str) -> Option<Output> {
        let program = command.split_whitespace().next().unwrap();
        let is_missing = program == "wget" && self.web.is_none();
        if is_missing || !is_installed(program) {
            let is_needed = std::env::var_os("JTP_ALL_TOOLS").is_some();
            assert!(!is_needed, "{program} or Python is not installed");
            return None;
        }
        Some(Output::of(&mut self.shell(command)))
    }

    fn shell(&self, command: &str) -> Command {
        let web = self.web.as_ref().map_or("", |web| &web.address);
        let command = command
            .replace("jtps://nas", &format!("jtps://{}", self.server.address))
            .replace("http://nas/", web)
            .replace("sha256:8f43…c1e7", &self.key);
        let mut shell = self.dir.command("sh", &["-c", &*command]);
        let programs = Path::new(CLIENT).parent().unwrap().to_str().unwrap();
        let path = std::env::var("PATH").unwrap();
        shell
            .current_dir(self.dir.path("here"))
            .env("PATH", format!("{programs}:{path}"))
            .env("RSYNC_RSH", self.dir.path("ssh"))
            .env("RCLONE_CONFIG", self.dir.path("none.conf"))
            .env("RCLONE_CONFIG_NAS_TYPE", "alias")
            .env("RCLONE_CONFIG_NAS_REMOTE", self.dir.path("nas"));
        shell
    }
}

fn is_installed(program: &str) -> bool {
    if program == "client" {
        return true;
    }
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The pictures at first.
fn add_pictures(photos: &Path) {
    let few = [
        "2023/a.jpg",
        "2023/b.png",
        "2024/c.jpg",
        "2024/d.webp",
        "top.jpg",
    ];
    let many = (0..40).map(|number| format!("2022/{number}.jpg"));
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for (seed, name) in (1..).zip(few.map(str::to_owned).into_iter().chain(many)) {
        let path = photos.join(name);
        write(&path, seed);
        // wget asks for a file only if it is newer, in whole seconds.
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(an_hour_ago).unwrap();
    }
}

fn write(path: &Path, seed: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Each length is another: rsync and rclone compare sizes, and times in whole seconds.
    let length = usize::try_from(3_000 + seed).unwrap();
    fs::write(path, noise(length, seed)).unwrap();
}

fn write_script(path: &Path, text: &str) {
    let plain = path.with_extension("txt");
    fs::write(&plain, text).unwrap();
    copy_program(&plain, path);
    path.parent().unwrap().set_mode(path, 0o755);
}

fn all_commands(section: usize) -> Vec<String> {
    let text = page("docs/migration.md");
    let section = text.split("\n## ").nth(section).unwrap();
    let all = console_commands(section);
    all.into_iter().map(|found| found.command).collect()
}

/// The commands of a section, without those of the server.
fn commands(section: usize) -> Vec<String> {
    let mut ours = all_commands(section);
    ours.retain(|command| !command.starts_with("server "));
    assert!(ours[0].starts_with("client "), "{ours:?}");
    ours
}

/// The command of the server, in the text before the sections or in one of them.
fn serve(number: usize) -> String {
    let mut all = all_commands(number).into_iter();
    all.find(|command| command.starts_with("server ")).unwrap()
}

#[test]
fn migration_page_has_six_sections_whose_commands_are_tested() {
    let text = page("docs/migration.md");
    let in_sections: usize = (1..=6).map(|number| commands(number).len()).sum();
    assert_eq!(console_commands(&text).len(), in_sections + 2);
}

/// Runs each command of a section in an empty folder, and compares the pictures that it copies.
fn assert_copies(section: usize, expected: &Tree, machines: &Machines) {
    for command in commands(section) {
        let Some(output) = machines.run(&command) else {
            continue;
        };
        assert_eq!(output.code, Some(0), "{command}: {output:?}");
        assert_eq!(tree(&machines.photos()), *expected, "{command}");
        fs::remove_dir_all(machines.photos()).unwrap();
    }
}

#[test]
fn first_copy_is_the_same_with_each_program() {
    let machines = Machines::new(&serve(0));
    let expected = tree(&machines.dir.path("nas/photos"));
    assert_eq!(expected.len(), 45);
    assert_copies(1, &expected, &machines);
}

/// A month of changes: new, deleted, renamed, moved and edited pictures.
fn change(machines: &Machines) {
    let photos = machines.dir.path("nas/photos");
    write(&photos.join("2025/new.jpg"), 1_000);
    photos.remove("2024/d.webp");
    photos.rename("2023/a.jpg", "2023/renamed.jpg");
    photos.rename("top.jpg", "2023/moved.jpg");
    write(&photos.join("2024/c.jpg"), 2_000);
    machines.wait_for_list();
}

/// Whether the command deletes what is not on the other machine any more.
fn deletes(command: &str) -> bool {
    let words = ["--mirror", "--delete", "rclone sync"];
    words.iter().any(|word| command.contains(word))
}

/// Each installed program and its command of a section. Before each, the program has made the first copy.
fn after_first_copy(section: usize, machines: &Machines, check: impl Fn(&str, &str)) {
    let first = commands(1);
    for command in commands(section) {
        let _ = fs::remove_dir_all(machines.photos());
        machines.restore();
        let program = command.split(' ').next().unwrap();
        let copy = first.iter().find(|first| first.starts_with(program));
        if let Some(output) = machines.run(copy.unwrap()) {
            output.assert_exit(0);
            let photos = tree(&machines.dir.path("nas/photos"));
            assert_eq!(tree(&machines.photos()), photos, "{output:?}");
            check(program, &command);
        }
    }
}

#[test]
fn copy_is_back_in_step_after_a_month_with_each_program() {
    let machines = Machines::new(&serve(0));
    after_first_copy(2, &machines, |program, command| {
        fs::write(machines.photos().join("notes.txt"), "mine").unwrap();
        let before = tree(&machines.photos());
        change(&machines);
        let output = machines.run(command).unwrap();
        assert_eq!(output.code, Some(0), "{command}: {output:?}");
        let mut expected = tree(&machines.dir.path("nas/photos"));
        if program == "client" {
            // The new one and the edited one: those that were renamed are there.
            output.assert_in_out("fetched 2 images");
        }
        if !deletes(command) {
            // What is not on the server any more stays.
            for (name, id) in before {
                expected.entry(name).or_insert(id);
            }
        } else if program == "client" {
            // What is no image is not touched.
            expected.insert("notes.txt".to_owned(), before["notes.txt"]);
        }
        assert_eq!(tree(&machines.photos()), expected, "{command}");
    });
}

#[test]
fn pattern_selects_the_same_pictures_with_each_program() {
    let machines = Machines::new(&serve(0));
    let mut expected = tree(&machines.dir.path("nas/photos"));
    expected.retain(|name, _| name.ends_with(".jpg"));
    assert_eq!(expected.len(), 43);
    assert_copies(3, &expected, &machines);
}

#[test]
fn dry_run_shows_the_changes_and_makes_none_with_each_program() {
    let machines = Machines::new(&serve(0));
    after_first_copy(4, &machines, |_, command| {
        change(&machines);
        let before = stamps(&machines.photos());
        let output = machines.run(command).unwrap();
        assert_eq!(output.code, Some(0), "{command}: {output:?}");
        let text = [output.out, output.err].concat();
        let names = ["new.jpg", "c.jpg", "d.webp"];
        let shown = if deletes(command) { 3 } else { 2 };
        for name in &names[..shown] {
            assert!(text.contains(name), "{command}: {name} is not in {text}");
        }
        assert_eq!(stamps(&machines.photos()), before, "{command}");
    });
}

#[test]
fn pinned_server_is_fetched_from_over_tls() {
    let machines = Machines::new(&serve(5));
    // The other machine has no certificate of the server.
    fs::remove_file(machines.dir.path("here/cert.pem")).unwrap();
    let command = &commands(5)[0];
    let output = machines.run(command).unwrap();
    assert_eq!(output.code, Some(0), "{command}: {output:?}");
    assert_eq!(
        tree(&machines.photos()),
        tree(&machines.dir.path("nas/photos"))
    );
    let plain = command
        .replace("jtps://nas", &machines.server.address)
        .replace("--pin sha256:8f43…c1e7 ", "");
    machines.run(&plain).unwrap().assert_exit(5);
}

#[test]
fn watch_fetches_each_new_picture() {
    let machines = Machines::new(&serve(0));
    let command = commands(6).remove(0);
    let client = Process::start(machines.shell(&format!("exec {command}")));
    client.err.wait_for("watching");
    let line = client.out.next_line();
    assert!(line.starts_with("fetched 45 images "), "{line}");
    let new = "2025/new.jpg";
    write(&machines.dir.path("nas/photos").join(new), 1_000);
    let line = client.out.next_line();
    assert!(line.starts_with(&format!("fetched {new} ")), "{line}");
    client.end(Signal::INT).assert_exit(130);
    assert_eq!(
        tree(&machines.photos()),
        tree(&machines.dir.path("nas/photos"))
    );
}

impl Machines {
    /// Puts the pictures on `nas` back to what they were before [`change`].
    fn restore(&self) {
        let photos = self.dir.path("nas/photos");
        let _ = fs::remove_dir_all(&photos);
        fs::create_dir(&photos).unwrap();
        // The pictures that are added have the names and bytes of those before: without this, the list of before would
        // pass for theirs.
        self.wait_for_list();
        add_pictures(&photos);
        self.wait_for_list();
    }

    /// Waits until the server lists the pictures as they are.
    fn wait_for_list(&self) {
        let expected = tree(&self.dir.path("nas/photos"));
        wait_until("the server's list", || {
            let list = self.run("client jtps://nas --list").unwrap().out;
            let is_listed = |(name, id): (&String, &ImageId)| {
                let is_it = |line: &str| line.starts_with(&id.to_string()) && line.ends_with(name);
                list.lines().any(is_it)
            };
            list.lines().count() == expected.len() && expected.iter().all(is_listed)
        });
    }
}
