//! A program that runs, and the lines that it prints.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::output::{Output, code, words};
use crate::signal::{self, Signal};
use crate::wait_until;

/// Only a failing test waits that long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a thread has read of a stream.
#[derive(Debug, Default)]
struct Printed {
    lines: Vec<String>,
    has_ended: bool,
}

/// The lines of a stream.
#[derive(Debug)]
pub struct Lines {
    printed: Arc<(Mutex<Printed>, Condvar)>,
    /// The number of lines that the test has taken.
    taken: AtomicUsize,
}

impl Lines {
    fn of(stream: Option<impl Read + Send + 'static>) -> Lines {
        let printed = Arc::<(Mutex<Printed>, Condvar)>::default();
        let shared = Arc::clone(&printed);
        thread::spawn(move || {
            let lines = stream.map(|stream| BufReader::new(stream).lines());
            for line in lines.into_iter().flatten().map_while(Result::ok) {
                shared.0.lock().unwrap().lines.push(line);
                shared.1.notify_all();
            }
            shared.0.lock().unwrap().has_ended = true;
            shared.1.notify_all();
        });
        Lines {
            printed,
            taken: AtomicUsize::new(0),
        }
    }

    /// Waits while nothing can be said yet.
    #[track_caller]
    fn wait_while(
        &self,
        what: &str,
        undecided: impl Fn(&Printed) -> bool,
    ) -> MutexGuard<'_, Printed> {
        let printed = self.printed.0.lock().unwrap();
        let waited = self
            .printed
            .1
            .wait_timeout_while(printed, TIMEOUT, |printed| undecided(printed));
        let (printed, timeout) = waited.unwrap();
        if timeout.timed_out() {
            let text = printed.lines.join("\n");
            drop(printed);
            panic!("timed out: {what}: {text}");
        }
        printed
    }

    /// The next line.
    ///
    /// # Panics
    ///
    /// If the stream ends before.
    #[track_caller]
    pub fn next_line(&self) -> String {
        self.wait_for("")
    }

    /// Takes lines until one contains `word`, and returns that line.
    ///
    /// # Panics
    ///
    /// If the stream ends before.
    #[track_caller]
    pub fn wait_for(&self, word: &str) -> String {
        self.find(word)
            .unwrap_or_else(|| panic!("no line with {word:?}: {}", self.so_far()))
    }

    #[track_caller]
    fn find(&self, word: &str) -> Option<String> {
        let first = self.taken.load(Relaxed);
        let place = |printed: &Printed| {
            let mut new = printed.lines[first..].iter();
            new.position(|line| line.contains(word))
                .map(|place| first + place)
        };
        let printed = self.wait_while(word, |printed| {
            !printed.has_ended && place(printed).is_none()
        });
        let place = place(&printed)?;
        self.taken.store(place + 1, Relaxed);
        Some(printed.lines[place].clone())
    }

    /// Waits for the end of the stream, and returns the lines that were not taken.
    #[track_caller]
    fn rest(&self) -> String {
        let printed = self.wait_while("the end", |printed| !printed.has_ended);
        let rest = &printed.lines[self.taken.load(Relaxed)..];
        rest.iter().map(|line| line.clone() + "\n").collect()
    }

    /// All lines so far, also those that were taken.
    #[must_use]
    pub fn so_far(&self) -> String {
        self.printed.0.lock().unwrap().lines.join("\n")
    }
}

/// A program that runs. When dropped, it is killed, with those in its process group if it has one of its own.
#[derive(Debug)]
pub struct Process {
    command: String,
    child: Child,
    /// The lines on stdout.
    pub out: Lines,
    /// The lines on stderr.
    pub err: Lines,
    /// Where a server listens.
    pub address: String,
}

impl Process {
    /// Starts a program, and reads what it prints.
    #[must_use]
    pub fn start(mut command: Command) -> Process {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Process::spawn(command)
    }

    /// Starts a program, and reads what it prints to the streams that are piped.
    ///
    /// # Panics
    ///
    /// If it cannot be run.
    #[must_use]
    pub fn spawn(mut command: Command) -> Process {
        let child = signal::prepare(&mut command).spawn();
        let mut child = child.expect("the program can be run");
        Process {
            command: words(&command),
            out: Lines::of(child.stdout.take()),
            err: Lines::of(child.stderr.take()),
            child,
            address: String::new(),
        }
    }

    /// Starts a server, and waits until it listens.
    #[must_use]
    pub fn listening(command: Command) -> Process {
        Process::start(command).with_address()
    }

    /// Starts a server whose stderr is as in the command, and waits until it listens. Nobody reads a pipe there.
    ///
    /// # Panics
    ///
    /// If it cannot be run.
    #[must_use]
    pub fn listening_with_stderr(mut command: Command) -> Process {
        command.stdout(Stdio::piped());
        let child = signal::prepare(&mut command).spawn();
        let mut child = child.expect("the program can be run");
        let process = Process {
            command: words(&command),
            out: Lines::of(child.stdout.take()),
            err: Lines::of(None::<std::io::Empty>),
            child,
            address: String::new(),
        };
        process.with_address()
    }

    /// Reads where a server listens, once it does.
    ///
    /// # Panics
    ///
    /// If it does not listen.
    #[must_use]
    pub fn with_address(mut self) -> Process {
        let line = self.out.find("").unwrap_or_default();
        let Some(address) = line.strip_prefix("listening on ") else {
            panic!("{}: {line:?}: {}", self.command, self.err.rest());
        };
        self.address = address.to_owned();
        self
    }

    /// Where a server listens.
    ///
    /// # Panics
    ///
    /// If it is no server.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address.parse().expect("an address")
    }

    /// The ID of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        signal::send(&self.child, signal);
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        format!(
            "\nstdout: {}\nstderr: {}",
            self.out.so_far(),
            self.err.so_far()
        )
    }

    /// Waits until a line on either stream contains `word`.
    ///
    /// # Panics
    ///
    /// If the program ends before.
    #[track_caller]
    pub fn wait_for(&mut self, word: &str) {
        wait_until(word, || {
            let has_ended = self.has_ended();
            let is_printed = self.printed().contains(word);
            assert!(is_printed || !has_ended, "no {word:?}: {}", self.printed());
            is_printed
        });
    }

    /// Waits for the end. The output is what was not taken.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        wait_until("the process ends", || self.has_ended());
        let status = self.child.wait().unwrap();
        let (out, err) = (self.out.rest(), self.err.rest());
        let command = std::mem::take(&mut self.command);
        Output {
            command,
            code: code(status),
            out,
            err,
        }
    }

    /// Sends SIGTERM, and waits for the end.
    #[track_caller]
    pub fn stop(self) -> Output {
        self.end(Signal::TERM)
    }

    /// Sends a signal, and waits for the end.
    #[track_caller]
    pub fn end(self, signal: Signal) -> Output {
        self.signal(signal);
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            #[cfg(unix)]
            let _ = rustix::process::kill_process_group(
                rustix::process::Pid::from_child(&self.child),
                Signal::KILL,
            );
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Whether strace works here, which makes system calls fail and counts them. Says so if it does not.
#[must_use]
pub fn has_strace() -> bool {
    let mut strace = Command::new("strace");
    let output = strace
        .args(["-f", "-qq", "-o", "/dev/null", "true"])
        .output();
    let works = output.is_ok_and(|output| output.status.success());
    if !works {
        println!("skipped: strace does not work here");
    }
    works
}
