//! R8 (a): clients that are killed while they rename files and fetch.

use std::collections::HashSet;

use jtp_kit::has_strace;

use super::*;

/// A server's folder, and the output folder of an earlier time.
struct Scene {
    workdir: WorkDir,
    /// The files of the output folder, by name and seed.
    before: Vec<(String, u64)>,
    modes: [&'static str; 3],
}

impl Scene {
    /// The server has shifted the names of a chain by one, to put a new image in front of it; has given the names of
    /// other images to new ones; and has new images.
    fn chain() -> Scene {
        let workdir = WorkDir::of(&[]);
        let mut before = Vec::new();
        for n in 0..8 {
            before.push((format!("chain-{n}.png"), n));
            workdir.add(&format!("chain-{}.png", n + 1), &picture(n));
        }
        workdir.add("chain-0.png", &picture(300));
        before.push(("taken.png".to_owned(), 100));
        workdir.add("moved.png", &picture(100));
        workdir.add("taken.png", &picture(301));
        before.push(("LOWER.png".to_owned(), 101));
        workdir.add("lower.png", &picture(101));
        workdir.add("LOWER.png", &picture(302));
        before.push(("gone-from-the-server.png".to_owned(), 102));
        for n in 0..12 {
            workdir.add(&format!("new-{n}.png"), &noise(40_000, 400 + n));
        }
        Scene {
            workdir,
            before,
            modes: ["--batch", "--batch -k", "--batch -p 3"],
        }
    }

    /// The server has rotated the names of five images, has swapped those of two, and has new images. The client
    /// fetches all.
    fn cycles() -> Scene {
        let workdir = WorkDir::of(&[]);
        let mut before = Vec::new();
        for n in 0..5 {
            before.push((format!("cycle-{n}.png"), n));
            workdir.add(&format!("cycle-{}.png", (n + 1) % 5), &picture(n));
        }
        for (n, old, new) in [(10, "a.jpg", "b.jpg"), (11, "b.jpg", "a.jpg")] {
            before.push((old.to_owned(), n));
            workdir.add(new, &picture(n));
        }
        for n in 0..6 {
            workdir.add(&format!("new-{n}.png"), &noise(40_000, 400 + n));
        }
        Scene {
            workdir,
            before,
            modes: ["", "-k", "-p 3"],
        }
    }

    fn fill_output(&self) {
        let output = self.workdir.output();
        let _ = fs::remove_dir_all(&output);
        fs::create_dir(&output).unwrap();
        for (name, seed) in &self.before {
            fs::write(output.join(name), picture(*seed)).unwrap();
        }
    }

    /// Checks the folder after a kill: nothing that it had is lost, and each visible file is a complete image.
    ///
    /// A client without --batch fetches every image anew. In a cycle of names it replaces a file once its image has come
    /// again and waits for its own name, in a hidden file: after a kill the next run fetches that image once more.
    #[track_caller]
    fn check(&self, what: &str) {
        let held = self
            .before
            .iter()
            .map(|(name, seed)| (name.clone(), id_of(&picture(*seed))));
        let held: BTreeMap<_, _> = held.collect();
        let output = files(&self.workdir.output());
        let lost = missing(&held, &output);
        let may_be_fetched_again = !self.modes[0].contains("--batch");
        assert!(
            lost.is_empty() || may_be_fetched_again,
            "{what}: {lost:?} are lost: {output:?}"
        );
        let images = files(&self.workdir.images());
        let known: HashSet<&u64> = images.values().chain(held.values()).collect();
        let partial: Vec<_> = output
            .iter()
            .filter(|(_, id)| !known.contains(id))
            .collect();
        assert!(partial.is_empty(), "{what}: {partial:?} are no images");
    }

    /// The next run completes, and the one after it has nothing to do.
    #[track_caller]
    fn complete(&self, server: &Process, what: &str) {
        let output = run(&self.workdir, server.addr(), "--batch");
        assert_eq!(output.code, Some(0), "{what}: {output:?}");
        self.check(what);
        let images = files(&self.workdir.images());
        let wrong = not_exactly_once(&images, &files(&self.workdir.output()));
        assert!(wrong.is_empty(), "{what}: {wrong:#?}");
        assert_eq!(self.workdir.output().temporaries(), [""; 0], "{what}");
        assert_nothing_to_do(&self.workdir, server);
    }

    /// Kills the client where one of its threads makes its nth system call of a kind.
    #[track_caller]
    fn kill_by_call(&self) {
        let server = self.workdir.server("--no-tls");
        let mut killed = 0;
        for calls in ["renameat,renameat2,rename", "linkat", "unlinkat"] {
            for args in self.modes {
                for n in [1, 2, 3, 4, 6, 9] {
                    let what = format!("{args:?} killed at {calls} {n}");
                    self.fill_output();
                    let client = self.workdir.client_command(server.addr(), args);
                    let mut strace = Command::new("strace");
                    strace.args(["-f", "-qq", "-o", "/dev/null"]);
                    strace.args(["-e", &format!("trace={calls}")]);
                    strace.args(["-e", &format!("inject={calls}:signal=KILL:when={n}")]);
                    let code = start(wrapped(strace, &client)).wait().code;
                    self.check(&what);
                    if code == Some(0) {
                        break;
                    }
                    killed += 1;
                    self.complete(&server, &what);
                }
            }
        }
        assert!(killed >= 10, "{killed}");
    }
}

#[test]
fn r8_a_client_with_batch_killed_at_any_change_of_the_folder_loses_no_image() {
    if has_strace() {
        Scene::chain().kill_by_call();
    }
}

#[test]
fn r8_after_a_kill_at_any_change_of_the_folder_of_a_client_without_batch_the_next_run_completes() {
    if has_strace() {
        Scene::cycles().kill_by_call();
    }
}
