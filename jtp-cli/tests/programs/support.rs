//! Test folders, processes, and fake servers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use jtp_core::ImageId;
pub(crate) use jtp_kit::{noise, wait_until};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_server");
pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_client");

/// The timeout of every wait.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A temporary working folder with a subfolder `images`.
pub(crate) struct TestDir(tempfile::TempDir);

impl TestDir {
    pub(crate) fn new() -> TestDir {
        let dir = TestDir(tempfile::tempdir().unwrap());
        fs::create_dir(dir.path("images")).unwrap();
        dir
    }

    /// Creates a folder with three images: `a.png`, `b.jpg`, `c.bmp`.
    pub(crate) fn with_images() -> TestDir {
        let dir = TestDir::new();
        dir.add("a.png", &noise(1000, 1));
        dir.add("b.jpg", &noise(2000, 2));
        dir.add("c.bmp", &[b"BM".as_slice(), &[7; 200_000]].concat());
        dir
    }

    /// Waits until the server lists the BMP of [`TestDir::with_images`] as compressed. At first it is listed uncompressed.
    pub(crate) fn wait_for_compressed_bmp(&self, server: &Process) {
        wait_until("the image is listed as compressed", || {
            let listed = self.fetch(server, &["--list", "--include", "*.bmp"]).out;
            listed.contains(".bmp") && !listed.contains("200002")
        });
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Adds an image atomically, by rename.
    pub(crate) fn add(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path("new.tmp"), bytes).unwrap();
        fs::rename(self.path("new.tmp"), self.path("images").join(name)).unwrap();
    }

    /// Adds 2,000 sparse images of 1 TB in all: a server's first scan takes far longer than any test, and a single image
    /// does not.
    pub(crate) fn add_endless_images(&self) {
        for number in 0..2_000_u32 {
            let path = self.path(&format!("images/{number}.png"));
            let mut file = fs::File::create(path).unwrap();
            file.write_all(&number.to_be_bytes()).unwrap();
            file.set_len(512 << 20).unwrap();
        }
    }

    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command.env_remove("RUST_LOG").env_remove("SSL_CERT_FILE");
        // Cargo sets it for tests, and the loader looks for each library in some 25 places then.
        command.env_remove("LD_LIBRARY_PATH");
        // Isolates the tests from the user's cache folder.
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// Runs a program until it exits.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> ProcessOutput {
        ProcessOutput::of(&mut self.command(program, args))
    }

    /// Starts a server on a free port of 127.0.0.1, and waits until it listens.
    pub(crate) fn serve(&self, args: &[&str]) -> Process {
        self.serve_on("127.0.0.1:0", args)
    }

    pub(crate) fn serve_on(&self, bind: &str, args: &[&str]) -> Process {
        let args = [&["--bind", bind], args].concat();
        Process::listening(self.command(SERVER, &args))
    }

    /// Starts a server on a free port in a subfolder.
    pub(crate) fn serve_in(&self, folder: &str, args: &[&str]) -> Process {
        let args = [&["--bind", "127.0.0.1:0"], args].concat();
        let mut command = self.command(SERVER, &args);
        command.current_dir(self.path(folder));
        Process::listening(command)
    }
    /// Runs the client against a server.
    pub(crate) fn fetch(&self, server: &Process, args: &[&str]) -> ProcessOutput {
        self.run(
            CLIENT,
            &[&["--addr", server.address.as_str()], args].concat(),
        )
    }

    /// The files of a folder, including hidden ones, with the IDs of their contents, sorted; none if it is missing.
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
    /// The client's index of the folder.
    const INDEX: &str = ".jtp-index";
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| name != INDEX && !is_lock(name))
        .map(|(name, path)| (name, ImageId::of(&fs::read(path).unwrap_or_default())))
        .collect();
    files.sort();
    files
}

/// A folder's visible files by their paths below it.
pub(crate) type Tree = BTreeMap<String, ImageId>;

pub(crate) fn tree(folder: &Path) -> Tree {
    fn add(folder: &Path, prefix: &str, tree: &mut Tree) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let entry = entry.unwrap();
            let path = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            if path.rsplit('/').next().unwrap().starts_with('.') {
                continue;
            }
            match entry.file_type().unwrap().is_dir() {
                true => add(&entry.path(), &format!("{path}/"), tree),
                false => drop(tree.insert(path, ImageId::of(&fs::read(entry.path()).unwrap()))),
            }
        }
    }
    let mut found = Tree::new();
    add(folder, "", &mut found);
    found
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Copies a program to be run by this test. Another process writes it: a process that another test starts meanwhile would
/// inherit a descriptor of this one that is open for writing, and the copy could not be run (ETXTBSY).
pub(crate) fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").args([from, to]).status().unwrap();
    assert!(copied.success(), "{}", to.display());
}

/// Whether it is the lock file of a running client.
fn is_lock(name: &str) -> bool {
    name.starts_with(".jtp-") && name.ends_with(".lock")
}

/// The exit code and output of a program.
#[derive(Debug)]
pub(crate) struct ProcessOutput {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl ProcessOutput {
    pub(crate) fn of(command: &mut Command) -> ProcessOutput {
        ProcessOutput::new(command.output().unwrap())
    }

    pub(crate) fn new(output: Output) -> ProcessOutput {
        ProcessOutput {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts success, this summary, and no output on stderr.
    #[track_caller]
    pub(crate) fn assert_success(&self, last_line: &str) {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.assert_summary(last_line);
        assert_eq!(self.err, "", "{self:?}");
    }

    /// Asserts success, and no output on stderr.
    #[track_caller]
    pub(crate) fn assert_no_error(&self) {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{self:?}");
    }

    /// Asserts the last line on stdout, ignoring the time.
    #[track_caller]
    pub(crate) fn assert_summary(&self, last_line: &str) {
        let line = self.out.lines().last().unwrap_or_default();
        let (fetched, rest) = line.split_once(" in ").unwrap_or((line, ""));
        let line = format!("{fetched}; {}", rest.split_once("; ").unwrap_or_default().1);
        assert_eq!(line, last_line, "{self:?}");
    }

    /// Asserts this exit code, and one error line on stderr that contains all of `words`.
    #[track_caller]
    pub(crate) fn assert_failure(&self, code: i32, words: &[&str]) {
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

/// The lines of a stream, read on a thread.
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
    pub(crate) fn next_line(&self) -> String {
        self.0
            .recv_timeout(TIMEOUT)
            .unwrap_or_else(|error| format!("no line: {error}"))
    }

    /// Reads until a line contains `word`, and returns that line.
    #[track_caller]
    pub(crate) fn wait_for(&self, word: &str) -> String {
        loop {
            let line = self
                .0
                .recv_timeout(TIMEOUT)
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

/// A running process. It is killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) out: Lines,
    pub(crate) err: Lines,
    pub(crate) address: String,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Process {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Process {
            child,
            out,
            err,
            address: String::new(),
        }
    }

    /// Starts a server, and waits until it listens.
    pub(crate) fn listening(command: Command) -> Process {
        let mut server = Process::start(command);
        let line = server.out.next_line();
        let address = line
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("{line}"));
        server.address = address.to_owned();
        server
    }

    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the exit. Returns the output that was not read yet.
    pub(crate) fn wait(mut self) -> ProcessOutput {
        let until = Instant::now() + TIMEOUT;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "the process does not exit");
            thread::sleep(Duration::from_millis(5));
        }
        let code = self.child.wait().unwrap().code();
        ProcessOutput {
            code,
            out: self.out.rest(),
            err: self.err.rest(),
        }
    }

    pub(crate) fn stop(self) -> ProcessOutput {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A fake server. It reads one request per connection with a single read, and calls `answer` with the number of the
/// connection and the type byte of the request.
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
}

impl FakeServer {
    pub(crate) fn new(
        answer: impl Fn(usize, u8, &mut TcpStream) + Send + Sync + 'static,
    ) -> FakeServer {
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
        FakeServer { address }
    }

    /// Creates a server that lists these images (name, ID, size), and answers requests for images with these packets.
    pub(crate) fn with(list: &[(&str, ImageId, u32)], packets: &[Vec<u8>]) -> FakeServer {
        let (list, packets) = (list_response(list), packets.to_vec());
        FakeServer::new(move |_, request, stream| {
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

/// A PNG packet with this ID, which need not match the bytes.
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
