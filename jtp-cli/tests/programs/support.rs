//! Test folders, processes, and fake servers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use jtp_core::ImageId;
pub(crate) use jtp_kit::{Args, Folder, Output, Process, noise, stamps, wait_until};

pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_server");
pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_client");

/// A temporary working folder with a subfolder `images`.
pub(crate) struct TestDir(tempfile::TempDir);

impl Deref for TestDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.0.path()
    }
}

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

    /// Adds images until their list does not fit into a pipe.
    pub(crate) fn add_many_images(&self) {
        for number in 0..1000_u32 {
            let name = format!("{number}-{}.png", "x".repeat(150));
            self.write(format!("images/{name}"), number.to_be_bytes());
        }
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

    pub(crate) fn command(&self, program: &str, args: &(impl Args + ?Sized)) -> Command {
        let mut command = Command::new(program);
        command
            .args(args.list())
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
    pub(crate) fn run(&self, program: &str, args: &(impl Args + ?Sized)) -> Output {
        Output::of(&mut self.command(program, args))
    }

    /// Starts a server on a free port of 127.0.0.1, and waits until it listens.
    pub(crate) fn serve(&self, args: &(impl Args + ?Sized)) -> Process {
        self.serve_on("127.0.0.1:0", args)
    }

    pub(crate) fn serve_on(&self, bind: &str, args: &(impl Args + ?Sized)) -> Process {
        Process::listening(self.server_command(bind, args))
    }

    pub(crate) fn server_command(&self, bind: &str, args: &(impl Args + ?Sized)) -> Command {
        self.command(SERVER, &[&["--bind", bind], &args.list()[..]].concat())
    }

    /// Runs the client against a server.
    pub(crate) fn fetch(&self, server: &Process, args: &(impl Args + ?Sized)) -> Output {
        Output::of(&mut self.client_command(&server.address, args))
    }

    pub(crate) fn client_command(&self, addr: &str, args: &(impl Args + ?Sized)) -> Command {
        self.command(CLIENT, &[&["--addr", addr], &args.list()[..]].concat())
    }

    /// Starts a client.
    pub(crate) fn client(&self, addr: &str, args: &(impl Args + ?Sized)) -> Process {
        Process::start(self.client_command(addr, args))
    }

    /// Starts a client, and waits until it watches.
    pub(crate) fn watch(&self, addr: &str, args: &(impl Args + ?Sized)) -> Process {
        let client = self.client(addr, &[&["--watch"], &args.list()[..]].concat());
        client.err.wait_for("watching");
        client
    }

    /// The names that a server lists, with `/` between folders, sorted.
    #[track_caller]
    pub(crate) fn listed(&self, server: &Process) -> Vec<String> {
        let output = self.fetch(server, "--list");
        output.assert_exit(0);
        let mut names = listed_names(&output);
        names.sort();
        names
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

/// The names in what `--list` prints.
pub(crate) fn listed_names(output: &Output) -> Vec<String> {
    let last = |line: &str| line.rsplit("  ").next().unwrap().to_owned();
    output.out.lines().map(last).collect()
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

/// What nobody reads any more, as a pipe to `head`.
pub(crate) fn closed_pipe() -> Stdio {
    let (closed, _) = UnixStream::pair().unwrap();
    Stdio::from(OwnedFd::from(closed))
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

/// The summary of a client that fetches all of [`TestDir::with_images`].
pub(crate) const ALL: &str = "fetched 3 images (198.24 KiB); 0 already there; 0 failed";

/// The key in a text, as in `sha256:…`.
pub(crate) fn key_in(text: &str) -> &str {
    let start = text.find("sha256:").unwrap();
    &text[start..start + "sha256:".len() + 64]
}

/// The key that a server logs at its start.
pub(crate) fn key_of(server: &Process) -> String {
    key_in(&server.err.wait_for("the server's key is ")).to_owned()
}

/// A connection over which the server sends all images, of which nobody reads more than the first bytes.
pub(crate) fn stalled_peer(server: &Process) -> TcpStream {
    let mut peer = TcpStream::connect(&server.address).unwrap();
    peer.write_all(&[5, 0]).unwrap();
    let mut header = [0; 4];
    peer.read_exact(&mut header).unwrap();
    assert_eq!(&header, b"JTPG");
    peer
}

/// A temporary file system of this size on a folder, which is created, until this is dropped. `None` if nothing can be
/// mounted here.
pub(crate) struct Disk<'a>(&'a Path);

#[cfg(target_os = "linux")]
impl Disk<'_> {
    pub(crate) fn mount<'a>(path: &'a Path, size: &str) -> Option<Disk<'a>> {
        use rustix::mount::{MountFlags, mount};
        path.make_dir("");
        let size = std::ffi::CString::new(format!("size={size}")).unwrap();
        if mount("tmpfs", path, "tmpfs", MountFlags::empty(), &*size).is_err() {
            eprintln!("skipped: cannot mount a tmpfs");
            return None;
        }
        Some(Disk(path))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// The response to a request for images of this type.
pub(crate) fn images_response(request: u8, packets: &[Vec<u8>]) -> Vec<u8> {
    let head = match request {
        0 => b"JTPD",
        2 => b"JTPB",
        _ => b"JTPG",
    };
    let count = u8::try_from(packets.len()).unwrap();
    [&head[..], &[count], &packets.concat()].concat()
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

    /// Answers each request with these bytes.
    pub(crate) fn answering(bytes: impl Into<Vec<u8>>) -> FakeServer {
        let bytes = bytes.into();
        FakeServer::new(move |_, _, stream| drop(stream.write_all(&bytes)))
    }

    /// Answers no request.
    pub(crate) fn silent() -> FakeServer {
        FakeServer::new(|_, _, stream| drop(stream.read(&mut [0])))
    }

    /// Creates a server that lists these images (name, ID, size), and answers requests for images with these packets.
    pub(crate) fn with(list: &[(&str, ImageId, u32)], packets: &[Vec<u8>]) -> FakeServer {
        let (list, packets) = (list_response(list), packets.to_vec());
        FakeServer::new(move |_, request, stream| {
            let response = match request {
                1 => list.clone(),
                _ => images_response(request, &packets),
            };
            let _ = stream.write_all(&response);
        })
    }

    pub(crate) fn addr(&self) -> String {
        self.address.to_string()
    }

    /// Runs a client.
    pub(crate) fn fetch(&self, dir: &TestDir, args: &(impl Args + ?Sized)) -> Output {
        Output::of(&mut dir.client_command(&self.addr(), args))
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
