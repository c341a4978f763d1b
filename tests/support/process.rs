//! The programs `server` and `client` as processes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

pub(crate) use jtp_kit::wait_until;

use super::bytes::TestImage;
use super::files;
use super::signal;
pub(crate) use super::signal::Signal;

/// The path of a program, built with the profile of the tests. (Cargo gives a test only the paths of its own
/// package's programs.) `JTP_PROGRAMS` is a folder with programs that were built already, for a machine without cargo.
pub(crate) fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        if let Some(built) = std::env::var_os("JTP_PROGRAMS") {
            return built.into();
        }
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
            // Building the test target too selects the features of `cargo test --test integration`, so that no
            // library is built twice. Offline: nothing is downloaded.
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
        // Cargo's variables for this test would make that build start from scratch.
        for (name, _) in std::env::vars_os() {
            let of_package = name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_"));
            if of_package || name == "CARGO_MANIFEST_DIR" || name == "CARGO_MANIFEST_PATH" {
                build.env_remove(name);
            }
        }
        assert!(
            build.status().unwrap().success(),
            "building the programs succeeds"
        );
        folder.to_owned()
    });
    folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// A working folder for the programs, with a folder `images` in it.
pub(crate) struct WorkDir(tempfile::TempDir);

impl WorkDir {
    /// With the sample images.
    pub(crate) fn samples() -> WorkDir {
        WorkDir::of(&files::images_in(&files::samples_folder()))
    }

    pub(crate) fn of(images: &[TestImage]) -> WorkDir {
        WorkDir::in_folder(&std::env::temp_dir(), images)
    }

    /// In a folder of the test's choice, for another file system.
    pub(crate) fn in_folder(folder: &Path, images: &[TestImage]) -> WorkDir {
        let workdir = WorkDir(tempfile::tempdir_in(folder).unwrap());
        fs::create_dir(workdir.images()).unwrap();
        for image in images {
            workdir.add(&image.name, &image.bytes);
        }
        workdir
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.0.path().join("images")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.0.path().join("output")
    }

    /// Adds an image by a rename, so that it is never seen half-written.
    pub(crate) fn add(&self, name: &str, bytes: &[u8]) -> TestImage {
        let hidden = self.0.path().join("new");
        fs::write(&hidden, bytes).unwrap();
        fs::rename(hidden, self.images().join(name)).unwrap();
        TestImage::new(name, bytes.to_vec())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Whether the folder stays at the end.
    pub(crate) fn keep(&mut self, keep: bool) {
        self.0.disable_cleanup(keep);
    }

    /// A command that runs a program in this folder.
    pub(crate) fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        signal::prepare(&mut command)
            .args(args)
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("XDG_CACHE_HOME", self.0.path().join("cache"))
            .env("LOCALAPPDATA", self.0.path().join("cache"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Starts `server` on a free port of 127.0.0.1, serving `images`, and waits until it listens. Its log goes to the
    /// file `server.log`.
    pub(crate) fn server(&self, args: &[&str]) -> ServerProcess {
        self.server_with_stderr(args, File::create(self.server_log()).unwrap())
    }

    /// Like [`server`](WorkDir::server), with a stderr of the test's choice.
    pub(crate) fn server_with_stderr(
        &self,
        args: &[&str],
        stderr: impl Into<Stdio>,
    ) -> ServerProcess {
        let args = [&["--bind", "127.0.0.1:0"], args].concat();
        let mut child = self
            .command("server", &args)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ");
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            let log = fs::read_to_string(self.server_log());
            panic!("{line:?}: {log:?}");
        };
        ServerProcess {
            child,
            address,
            _stdout: stdout,
        }
    }

    pub(crate) fn server_log(&self) -> PathBuf {
        self.0.path().join("server.log")
    }

    /// Runs `client` to its end; it fills `output`.
    #[track_caller]
    pub(crate) fn client(&self, address: SocketAddr, args: &[&str]) -> ProgramOutput {
        let address = address.to_string();
        let args = [&["--addr", &*address], args].concat();
        let output = self.command("client", &args).output().unwrap();
        ProgramOutput {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts `client`.
    pub(crate) fn start_client(&self, address: SocketAddr, args: &[&str]) -> ClientProcess {
        let address = address.to_string();
        let args = [&["--addr", &*address], args].concat();
        let mut command = self.command("client", &args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        ClientProcess(command.spawn().unwrap())
    }

    /// The visible files of `output`, in catalog order; empty if it does not exist.
    pub(crate) fn fetched(&self) -> Vec<TestImage> {
        if self.output().exists() {
            files::images_in(&self.output())
        } else {
            Vec::new()
        }
    }
}

/// A program's exit code and output.
#[derive(Debug)]
pub(crate) struct ProgramOutput {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl ProgramOutput {
    #[track_caller]
    pub(crate) fn assert_success(&self) -> &ProgramOutput {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// Checks the numbers of fetched and already present images on the last line.
    #[track_caller]
    pub(crate) fn assert_fetched(&self, fetched: usize, present: usize) {
        self.assert_success();
        let last = self.out.lines().last().unwrap_or_default();
        let images = if fetched == 1 { "image" } else { "images" };
        assert!(
            last.starts_with(&format!("fetched {fetched} {images} ("))
                && last.contains(&format!("; {present} already there; 0 failed")),
            "{self:?}"
        );
    }
}

/// A process that is killed at the end of the test.
pub(crate) struct ClientProcess(Child);

impl ClientProcess {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    #[track_caller]
    pub(crate) fn signal(&mut self, signal: Signal) {
        signal::send(&mut self.0, signal);
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        wait_until("the process ends", || self.has_ended());
        self.0.wait().unwrap()
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `server`.
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) address: SocketAddr,
    _stdout: BufReader<ChildStdout>,
}

impl ServerProcess {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM and returns the exit status.
    #[track_caller]
    pub(crate) fn stop(mut self) -> ExitStatus {
        signal::send(&mut self.child, Signal::TERM);
        wait_until("the server ends", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap()
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its peak resident memory in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory(&self) -> u64 {
        peak_memory(self.child.id()).unwrap()
    }
}

/// The peak resident memory of a process in bytes; `None` once it has ended.
#[cfg(target_os = "linux")]
pub(crate) fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib = line.trim().trim_end_matches(" kB");
    Some(kib.parse::<u64>().ok()? * 1024)
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
