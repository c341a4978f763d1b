//! A running example.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::TIMEOUT;

/// A running example. It is killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Process {
    pub(crate) fn start(name: &str, args: &[&str], folder: &Path) -> Process {
        // target/PROFILE/deps/run-HASH
        let own = std::env::current_exe().unwrap();
        let examples = own.ancestors().nth(2).unwrap().join("examples");
        let mut child =
            Command::new(examples.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
                .args(args)
                .current_dir(folder)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|e| panic!("{name}: {e}; `cargo test -p jtp-examples` builds it"));
        Process {
            name: name.to_owned(),
            stdout: lines(child.stdout.take().unwrap()),
            stderr: lines(child.stderr.take().unwrap()),
            child,
        }
    }

    pub(crate) fn line(&self) -> String {
        self.stdout.recv_timeout(TIMEOUT).unwrap_or_else(|e| {
            let stderr: Vec<_> = self.stderr.try_iter().collect();
            panic!("{} prints no line: {e}; {stderr:?}", self.name)
        })
    }

    /// Presses Ctrl-C.
    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    /// Waits for the exit. Returns the status, and the lines on stdout and stderr.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let name = self.name.clone();
        let all = |lines: &Receiver<String>| {
            let mut received = Vec::new();
            loop {
                match lines.recv_timeout(TIMEOUT) {
                    Ok(line) => received.push(line),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return received,
                    Err(e) => panic!("{name} does not exit: {e}; {received:?}"),
                }
            }
        };
        let (stdout, stderr) = (all(&self.stdout), all(&self.stderr));
        // Both pipes are closed, so the process is exiting.
        (self.child.wait().unwrap(), stdout, stderr)
    }

    /// Asserts success without output on stderr. Returns the lines on stdout.
    pub(crate) fn succeeds(self) -> Vec<String> {
        let name = self.name.clone();
        let (status, stdout, stderr) = self.end();
        assert!(status.success(), "{name}: {status}; {stdout:?}; {stderr:?}");
        assert_eq!(stderr, [""; 0], "{name}");
        stdout
    }

    /// Asserts exit code 1 and one line on stderr. Returns that line.
    pub(crate) fn fails(self) -> String {
        let name = self.name.clone();
        let (status, stdout, mut stderr) = self.end();
        assert_eq!(status.code(), Some(1), "{name}: {stdout:?}; {stderr:?}");
        assert_eq!(stderr.len(), 1, "{name}: {stderr:?}");
        stderr.remove(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the process has exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Reads on even if the test has dropped the receiver: a full pipe would block the example.
            let _ = sender.send(line);
        }
    });
    receiver
}
