//! The programs `server` and `client` as processes.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

pub(crate) use jtp_kit::{Args, Output, Process, wait_until};

use super::bytes::TestImage;
use super::files;

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
    pub(crate) fn command(&self, name: &str, args: &(impl Args + ?Sized)) -> Command {
        let mut command = Command::new(program(name));
        command
            .args(args.list())
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
    pub(crate) fn server(&self, args: &(impl Args + ?Sized)) -> Process {
        self.server_with_stderr(args, File::create(self.server_log()).unwrap())
    }

    /// Like [`server`](WorkDir::server), with a stderr of the test's choice.
    pub(crate) fn server_with_stderr(
        &self,
        args: &(impl Args + ?Sized),
        stderr: impl Into<Stdio>,
    ) -> Process {
        let mut command = self.command("server", "--bind 127.0.0.1:0");
        command.args(args.list()).stderr(stderr);
        Process::listening_with_stderr(command)
    }

    pub(crate) fn server_log(&self) -> PathBuf {
        self.0.path().join("server.log")
    }

    /// Runs `client` to its end; it fills `output`.
    #[track_caller]
    pub(crate) fn client(&self, address: SocketAddr, args: &(impl Args + ?Sized)) -> Output {
        Output::of(&mut self.client_command(address, args))
    }

    /// Starts `client`, whose output nobody reads.
    pub(crate) fn start_client(&self, address: SocketAddr, args: &(impl Args + ?Sized)) -> Process {
        let mut command = self.client_command(address, args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Process::spawn(command)
    }

    pub(crate) fn client_command(
        &self,
        address: SocketAddr,
        args: &(impl Args + ?Sized),
    ) -> Command {
        let mut command = self.command("client", &format!("--addr {address}"));
        command.args(args.list());
        command
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

/// The peak resident memory of a program in bytes; `None` before it is executed and once it has ended.
///
/// `spawn` returns a moment before the child has memory of its own: until then, the figures are those of the caller.
#[cfg(target_os = "linux")]
pub(crate) fn peak_memory(pid: u32) -> Option<u64> {
    let program = |process: &str| fs::read_link(format!("/proc/{process}/exe")).ok();
    if program(&pid.to_string())? == program("self")? {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib = line.trim().trim_end_matches(" kB");
    Some(kib.parse::<u64>().ok()? * 1024)
}
