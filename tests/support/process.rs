//! The programs `server` and `client` as processes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::bytes::Picture;
use super::files;

/// Where the programs are, built as the tests were. Cargo tells a test only of its own package's programs.
pub(crate) fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // target/PROFILE/deps/integration-HASH
        let own = std::env::current_exe().unwrap();
        let folder = own.ancestors().nth(2).unwrap();
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") => "dev",
            Some(profile) => profile,
            None => panic!("no profile in {}", own.display()),
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            // With the test beside them the features are those of `cargo test --test integration`, so that
            // no library is built twice; and without the network.
            .args(["build", "--quiet", "--offline", "--workspace", "--bins"])
            .args([
                "--test",
                "integration",
                "--profile",
                profile,
                "--target-dir",
            ])
            .arg(folder.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo set for this test is not for that build: it would only make it build anew.
        for (name, _) in std::env::vars_os() {
            let of_package = name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_"));
            if of_package || name == "CARGO_MANIFEST_DIR" || name == "CARGO_MANIFEST_PATH" {
                build.env_remove(name);
            }
        }
        assert!(build.status().unwrap().success(), "the programs are built");
        folder.to_owned()
    });
    folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// A folder to work in, with `images` in it.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    /// With the sample pictures.
    pub(crate) fn samples() -> Place {
        Place::of(&files::pictures(&files::samples_folder()))
    }

    pub(crate) fn of(pictures: &[Picture]) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::create_dir(place.images()).unwrap();
        for picture in pictures {
            place.add(&picture.name, &picture.bytes);
        }
        place
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.0.path().join("images")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.0.path().join("output")
    }

    /// An image that appears whole.
    pub(crate) fn add(&self, name: &str, bytes: &[u8]) -> Picture {
        let hidden = self.0.path().join("new");
        fs::write(&hidden, bytes).unwrap();
        fs::rename(hidden, self.images().join(name)).unwrap();
        Picture::new(name, bytes.to_vec())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A program, run in this place.
    pub(crate) fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        command
            .args(args)
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("XDG_CACHE_HOME", self.0.path().join("cache"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// `server` on a free port of 127.0.0.1, once it listens; it shows `images`, the default.
    pub(crate) fn server(&self, args: &[&str]) -> Server {
        let args = [&["--bind", "127.0.0.1:0"], args].concat();
        let mut child = self
            .command("server", &args)
            .stdout(Stdio::piped())
            .stderr(File::create(self.0.path().join("server.log")).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ");
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            let log = fs::read_to_string(self.0.path().join("server.log")).unwrap();
            panic!("{line:?}: {log}");
        };
        Server {
            child,
            address,
            _stdout: stdout,
        }
    }

    /// `client`, to its end; it fills `output`, the default.
    #[track_caller]
    pub(crate) fn client(&self, address: SocketAddr, args: &[&str]) -> Ended {
        let address = address.to_string();
        let args = [&["--addr", &*address], args].concat();
        let output = self.command("client", &args).output().unwrap();
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `client`, running.
    pub(crate) fn start_client(&self, address: SocketAddr, args: &[&str]) -> Running {
        let address = address.to_string();
        let args = [&["--addr", &*address], args].concat();
        let mut command = self.command("client", &args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    /// The visible files of `output`, in order; none if it is missing.
    pub(crate) fn fetched(&self) -> Vec<Picture> {
        if self.output().exists() {
            files::pictures(&self.output())
        } else {
            Vec::new()
        }
    }
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn well(&self) -> &Ended {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// Says on its last line that so many came and so many were there.
    #[track_caller]
    pub(crate) fn fetched(&self, came: usize, there: usize) {
        self.well();
        let last = self.out.lines().last().unwrap_or_default();
        let images = if came == 1 { "image" } else { "images" };
        assert!(
            last.starts_with(&format!("fetched {came} {images} ("))
                && last.contains(&format!("; {there} already there; 0 failed")),
            "{self:?}"
        );
    }
}

/// A process that ends with the test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        eventually("the process ends", || self.has_ended());
        self.0.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `server`.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        eventually("the server ends", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The most memory it has had, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory(&self) -> u64 {
        peak_memory(self.child.id()).unwrap()
    }
}

/// The most memory that a process has had, in bytes; `None` once it is gone.
#[cfg(target_os = "linux")]
pub(crate) fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib = line.trim().trim_end_matches(" kB");
    Some(kib.parse::<u64>().ok()? * 1024)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for what another process brings about and tells nobody.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
