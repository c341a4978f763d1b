//! Processes, folders, and servers that misbehave.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use jtp_core::ImageId;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_server");
pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_client");

/// Nothing here takes that long; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder to work in, with `images/` in it.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("images")).unwrap();
        place
    }

    /// A place with three images: `a.png`, `b.jpg`, `c.bmp`.
    pub(crate) fn with_images() -> Place {
        let place = Place::new();
        place.add("a.png", &picture(1, 1000));
        place.add("b.jpg", &picture(2, 2000));
        place.add("c.bmp", &[b"BM".as_slice(), &[7; 200_000]].concat());
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Adds an image as careful programs do: it appears whole.
    pub(crate) fn add(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path("new.tmp"), bytes).unwrap();
        fs::rename(self.path("new.tmp"), self.path("images").join(name)).unwrap();
    }

    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command.env_remove("RUST_LOG").env_remove("SSL_CERT_FILE");
        // Not the cache of whoever runs the tests.
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// Runs a program to its end.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Ended {
        Ended::of(&mut self.command(program, args))
    }

    /// Starts a server on a free port of 127.0.0.1, and waits until it listens.
    pub(crate) fn serve(&self, args: &[&str]) -> Running {
        self.serve_on("127.0.0.1:0", args)
    }

    pub(crate) fn serve_on(&self, bind: &str, args: &[&str]) -> Running {
        let args = [&["--bind", bind], args].concat();
        let mut server = Running::start(self.command(SERVER, &args));
        let line = server.out.line();
        let address = line
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("{line}"));
        server.address = address.to_owned();
        server
    }

    /// Runs the client against a server.
    pub(crate) fn fetch(&self, server: &Running, args: &[&str]) -> Ended {
        self.run(
            CLIENT,
            &[&["--addr", server.address.as_str()], args].concat(),
        )
    }

    /// The visible and hidden files of a folder with what they hold, in order; none if it is missing.
    pub(crate) fn files(&self, folder: &str) -> Vec<(String, ImageId)> {
        files(&self.path(folder))
    }

    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        self.files(folder)
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }
}

pub(crate) fn files(folder: &Path) -> Vec<(String, ImageId)> {
    /// What the store remembers of the folder between two runs.
    const INDEX: &str = ".jtp-index";
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| name != INDEX)
        .map(|(name, path)| (name, ImageId::of(&fs::read(path).unwrap_or_default())))
        .collect();
    files.sort();
    files
}

/// Bytes that no compression shortens, and that are no type's.
pub(crate) fn picture(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// Waits for what another process brings about and tells nobody.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(command: &mut Command) -> Ended {
        Ended::new(command.output().unwrap())
    }

    fn new(output: Output) -> Ended {
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It went well, and the last line says this.
    #[track_caller]
    pub(crate) fn well(&self, last_line: &str) {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.says(last_line);
        assert_eq!(self.err, "", "{self:?}");
    }

    /// The last line on stdout begins so; times are no matter.
    #[track_caller]
    pub(crate) fn says(&self, last_line: &str) {
        let line = self.out.lines().last().unwrap_or_default();
        let (fetched, rest) = line.split_once(" in ").unwrap_or((line, ""));
        let line = format!("{fetched}; {}", rest.split_once("; ").unwrap_or_default().1);
        assert_eq!(line, last_line, "{self:?}");
    }

    /// It failed with this code, and one line on stderr that contains all of these.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let errors: Vec<_> = self
            .err
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        for word in words {
            assert!(errors[0].contains(word), "{word} is not in {self:?}");
        }
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}

/// Lines of a stream, read on a thread.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Lines {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Lines(receiver)
    }

    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.0
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|error| format!("no line: {error}"))
    }

    /// Reads up to a line that contains this.
    #[track_caller]
    pub(crate) fn until(&self, word: &str) -> String {
        loop {
            let line = self
                .0
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|error| panic!("no {word}: {error}"));
            if line.contains(word) {
                return line;
            }
        }
    }

    fn rest(&self) -> String {
        self.0.iter().map(|line| line + "\n").collect()
    }
}

/// A process that runs, killed when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) out: Lines,
    pub(crate) err: Lines,
    pub(crate) address: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Running {
            child,
            out,
            err,
            address: String::new(),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; what it printed and nobody read yet.
    pub(crate) fn end(mut self) -> Ended {
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
        let code = self.child.wait().unwrap().code();
        Ended {
            code,
            out: self.out.rest(),
            err: self.err.rest(),
        }
    }

    pub(crate) fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server made of a script: each connection's request is read for as long as it comes in one piece, and
/// answered with what `answer` says to its type byte and the connection's number.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
}

impl Fake {
    pub(crate) fn new(answer: impl Fn(usize, u8, &mut TcpStream) + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = std::sync::Arc::new(answer);
        thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                let (answer, mut stream) = (std::sync::Arc::clone(&answer), stream.unwrap());
                thread::spawn(move || {
                    let mut request = [0; 4096];
                    if stream.read(&mut request).is_ok_and(|count| count > 0) {
                        answer(n, request[0], &mut stream);
                    }
                });
            }
        });
        Fake { address }
    }

    /// One that lists these images (name, ID, size), and sends these packets to whoever asks for images.
    pub(crate) fn with(list: &[(&str, ImageId, u32)], packets: &[Vec<u8>]) -> Fake {
        let (list, packets) = (list_response(list), packets.to_vec());
        Fake::new(move |_, request, stream| {
            let response = match request {
                1 => list.clone(),
                0 => [
                    b"JTPD".as_slice(),
                    &[u8::try_from(packets.len()).unwrap()],
                    &packets.concat(),
                ]
                .concat(),
                _ => [
                    b"JTPG".as_slice(),
                    &[u8::try_from(packets.len()).unwrap()],
                    &packets.concat(),
                ]
                .concat(),
            };
            let _ = stream.write_all(&response);
        })
    }

    pub(crate) fn addr(&self) -> String {
        self.address.to_string()
    }
}

pub(crate) fn list_response(list: &[(&str, ImageId, u32)]) -> Vec<u8> {
    let mut response = [b"JTPL".as_slice(), &[u8::try_from(list.len()).unwrap()]].concat();
    for (name, id, size) in list {
        response.extend(id.to_be_bytes());
        response.push(0);
        response.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        response.extend(name.as_bytes());
        response.extend(varint(*size));
    }
    response
}

/// A packet with a PNG of that ID, whatever its bytes are.
pub(crate) fn packet(id: ImageId, bytes: &[u8]) -> Vec<u8> {
    [
        vec![0],
        varint(u32::try_from(bytes.len()).unwrap()),
        id.to_be_bytes().to_vec(),
        bytes.to_vec(),
    ]
    .concat()
}

pub(crate) fn varint(value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    jtp_core::wire::varint::encode(value, &mut out);
    out
}

/// An error frame.
pub(crate) fn jtpe(code: u8, message: &str) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [b"JTPE".as_slice(), &[code], &length, message.as_bytes()].concat()
}
