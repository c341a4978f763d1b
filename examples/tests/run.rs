//! Runs every example as a process, as its documentation describes. `cargo test -p jtp-examples` builds the examples
//! first; with `--test run` cargo does not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// The timeout of every wait.
const TIMEOUT: Duration = Duration::from_secs(60);

const FETCHERS: [&str; 3] = ["fetch_tokio", "fetch_async_std", "fetch_blocking"];

/// A running example. It is killed when dropped.
struct Process {
    name: String,
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Process {
    fn start(name: &str, args: &[&str], folder: &Path) -> Process {
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

    fn line(&self) -> String {
        self.stdout.recv_timeout(TIMEOUT).unwrap_or_else(|e| {
            let stderr: Vec<_> = self.stderr.try_iter().collect();
            panic!("{} prints no line: {e}; {stderr:?}", self.name)
        })
    }

    /// Waits for the exit. Returns the status, and the lines on stdout and stderr.
    fn end(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
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
    fn succeeds(self) -> Vec<String> {
        let name = self.name.clone();
        let (status, stdout, stderr) = self.end();
        assert!(status.success(), "{name}: {status}; {stdout:?}; {stderr:?}");
        assert_eq!(stderr, [""; 0], "{name}");
        stdout
    }

    /// Asserts exit code 1 and one line on stderr. Returns that line.
    fn fails(self) -> String {
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

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// Starts a `serve_*` on the sample images. Returns it with its address once it listens.
fn serve(name: &str, folder: &Path, tls: bool) -> (Process, String) {
    let images = root().join("images");
    let mut args = vec![
        "--bind",
        "127.0.0.1:0",
        "--images",
        images.to_str().unwrap(),
    ];
    args.extend(tls.then_some("--tls"));
    let server = Process::start(name, &args, folder);
    let line = server.line();
    let address = line.strip_prefix("listening on ").unwrap().to_owned();
    (server, address)
}

/// The visible files of a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    files
        .map(|file| {
            (
                file.file_name().into_string().unwrap(),
                fs::read(file.path()).unwrap(),
            )
        })
        .filter(|(name, _)| !name.starts_with('.'))
        .collect()
}

fn assert_all_clients_fetch_all_images(server: &str, tls: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve(server, dir.path(), tls);
    let expected = contents(&root().join("images"));
    assert_eq!(expected.len(), 14);
    for fetch in FETCHERS {
        let mut args = vec!["--addr", &address, "--out", fetch];
        args.extend(tls.then_some(["--cert", "cert.pem"]).into_iter().flatten());
        let output = Process::start(fetch, &args, dir.path()).succeeds();
        assert_eq!(output, ["fetched 14 images, each verified; 0 failed"]);
        let got = contents(&dir.path().join(fetch));
        assert!(got == expected, "{server} and {fetch}: {:?}", got.keys());
    }
    if tls {
        // The server refuses plain TCP.
        for fetch in FETCHERS {
            let args = ["--addr", &address, "--out", "plain"];
            let error = Process::start(fetch, &args, dir.path()).fails();
            assert!(error.contains("TLS"), "{error}");
        }
    }
}

#[test]
fn serve_tokio_serves_all_clients() {
    assert_all_clients_fetch_all_images("serve_tokio", false);
}

#[test]
fn serve_async_std_serves_all_clients() {
    assert_all_clients_fetch_all_images("serve_async_std", false);
}

#[test]
fn serve_blocking_serves_all_clients() {
    assert_all_clients_fetch_all_images("serve_blocking", false);
}

#[test]
fn serve_tokio_serves_all_clients_over_tls() {
    assert_all_clients_fetch_all_images("serve_tokio", true);
}

#[test]
fn serve_async_std_serves_all_clients_over_tls() {
    assert_all_clients_fetch_all_images("serve_async_std", true);
}

#[test]
fn serve_blocking_serves_all_clients_over_tls() {
    assert_all_clients_fetch_all_images("serve_blocking", true);
}

#[test]
fn errors_are_one_line_with_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    for server in ["serve_tokio", "serve_async_std", "serve_blocking"] {
        let error = Process::start(server, &["--bind"], dir.path()).fails();
        assert_eq!(error, "error: usage: --bind ADDR --images DIR [--tls]");
        let args = ["--bind", "127.0.0.1:0", "--images", "missing"];
        let error = Process::start(server, &args, dir.path()).fails();
        let named = "error: cannot read the images folder missing: ";
        assert!(error.starts_with(named), "{error}");
    }
    for fetch in FETCHERS {
        let error = Process::start(fetch, &[], dir.path()).fails();
        assert_eq!(
            error,
            "error: usage: --addr HOST:PORT --out DIR [--cert PEM]"
        );
        let args = ["--addr", "127.0.0.1:1", "--out", "out"];
        let error = Process::start(fetch, &args, dir.path()).fails();
        let named = "error: cannot connect to 127.0.0.1:1: Connection refused";
        assert!(error.starts_with(named), "{error}");
        let args = [&args[..], &["--cert", "missing.pem"]].concat();
        let error = Process::start(fetch, &args, dir.path()).fails();
        assert!(error.contains("missing.pem"), "{error}");
    }
}

#[test]
fn serve_does_not_overwrite_a_certificate_with_a_key() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cert.pem"), "theirs").unwrap();
    fs::write(dir.path().join("key.pem"), "theirs").unwrap();
    let args = ["--bind", "127.0.0.1:0", "--images", ".", "--tls"];
    Process::start("serve_blocking", &args, dir.path()).fails();
    assert_eq!(fs::read(dir.path().join("cert.pem")).unwrap(), b"theirs");
}

#[test]
fn an_image_that_stays_broken_is_a_failure() {
    use std::io::Write;
    use std::net::TcpListener;

    // One entry, and a packet whose bytes do not match its ID, for each request.
    let list = b"JTPL\x01\0\0\0\0\0\0\0\x07\x03\0\x05a.bmp\x01".to_vec();
    let packet = b"\x03\x01\0\0\0\0\0\0\0\x07x".as_slice();
    for fetch in FETCHERS {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (list, packet) = (list.clone(), packet.to_owned());
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 2];
            while stream.read_exact(&mut head).is_ok() {
                let answer = match head[0] {
                    0 => {
                        stream.read_exact(&mut [0; 9]).unwrap();
                        [b"JTPD\x01".as_slice(), &packet].concat()
                    }
                    1 => list.clone(),
                    5 => [b"JTPG\x01".as_slice(), &packet].concat(),
                    other => panic!("request {other}"),
                };
                stream.write_all(&answer).unwrap();
            }
        });
        let args = ["--addr", &address, "--out", "out"];
        let (status, stdout, stderr) = Process::start(fetch, &args, dir.path()).end();
        assert_eq!(status.code(), Some(1), "{fetch}: {stdout:?}; {stderr:?}");
        assert_eq!(stdout, ["fetched 0 images, each verified; 1 failed"]);
        let cause = "0000000000000007: the image is broken: the image's bytes have the ID ";
        assert!(stderr[0].starts_with(cause), "{stderr:?}");
        assert_eq!(stderr.last().unwrap(), "error: 1 of the images failed");
        assert!(contents(&dir.path().join("out")).is_empty());
        serving.join().unwrap();
    }
}

#[test]
fn sync_prints_what_the_readme_shows() {
    let output = Process::start("sync", &[], &root()).succeeds();
    assert_eq!(
        output.last().unwrap(),
        "both folders contain the same images"
    );
    // README.md shows the same output, except for the port, the time, and the images that … stands for.
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, shown) = readme
        .split_once("$ cargo run --release --example sync\n")
        .unwrap();
    let shown: Vec<&str> = shown.split("```").next().unwrap().lines().collect();
    let words = |line: &str| -> Vec<String> {
        let is_fixed = |word: &&str| !word.contains(':') && !word.contains("ms,");
        line.split_whitespace()
            .filter(is_fixed)
            .map(str::to_owned)
            .collect()
    };
    let gap = shown.iter().position(|line| line.trim() == "…").unwrap();
    let behind = shown.len() - gap - 1;
    let ends = [&output[..gap], &output[output.len() - behind..]].concat();
    let shown = [&shown[..gap], &shown[gap + 1..]].concat();
    for (output, shown) in ends.iter().zip(shown) {
        assert_eq!(words(output), words(shown));
    }
}

#[test]
fn sans_io_explains_each_byte() {
    let output = Process::start("sans_io", &[], &root()).succeeds();
    let has = |way: &str, bytes: &str, what: &str| {
        let start = format!("  {way}  {bytes} ");
        assert!(
            output
                .iter()
                .any(|l| l.starts_with(&start) && l.contains(what)),
            "{output:#?}"
        );
    };
    has("client → server", "01 01", "List");
    has("server → client", "4a 54 50 4c 01", "Begin");
    has("server → client", "47 49 46 38 39 61", "Data");
    has("server → client", "4a 54 50 57", "NewImage");
    has("client → server", "03 00", "CANCEL");
    has("server → client", "4a 54 50 43", "Cancelled");
}

#[test]
fn memory_store_serves_its_images() {
    let output = Process::start("memory_store", &[], &root()).succeeds();
    let verified = output
        .iter()
        .filter(|line| line.ends_with("196623 bytes, verified"));
    assert_eq!(verified.count(), 4, "{output:#?}");
}

#[test]
fn idle_load_prints_the_latency_ratio() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve("serve_tokio", dir.path(), false);
    let output = Process::start("idle_load", &[&address, "3", "1", "5"], &root()).succeeds();
    assert!(
        output.last().unwrap().starts_with("p99 ratio: "),
        "{output:?}"
    );
}
