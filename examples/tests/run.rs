//! Every example as a process, as its first lines say it is run. `cargo test -p jtp-examples` builds them all
//! before it runs this; `--test run` alone does not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// How long an example may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const FETCHERS: [&str; 3] = ["fetch_tokio", "fetch_async_std", "fetch_blocking"];

/// An example at work. It never outlives the test.
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
        self.stdout.recv_timeout(PATIENCE).unwrap_or_else(|e| {
            let said: Vec<_> = self.stderr.try_iter().collect();
            panic!("{} says nothing more: {e}; {said:?}", self.name)
        })
    }

    /// Its status and all it said, once it ends.
    fn end(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let name = self.name.clone();
        let all = |lines: &Receiver<String>| {
            let mut said = Vec::new();
            loop {
                match lines.recv_timeout(PATIENCE) {
                    Ok(line) => said.push(line),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return said,
                    Err(e) => panic!("{name} does not end: {e}; {said:?}"),
                }
            }
        };
        let (stdout, stderr) = (all(&self.stdout), all(&self.stderr));
        // Both pipes are closed: it is ending.
        (self.child.wait().unwrap(), stdout, stderr)
    }

    fn succeeds(self) -> Vec<String> {
        let name = self.name.clone();
        let (status, stdout, stderr) = self.end();
        assert!(status.success(), "{name}: {status}; {stdout:?}; {stderr:?}");
        assert_eq!(stderr, [""; 0], "{name}");
        stdout
    }

    /// It fails with one line.
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
        // Fails only where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // To the end, whether or not the test still listens: a full pipe would stop the example.
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

/// A `serve_*` that shows the sample pictures, once it listens, and its address.
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

/// The files of a folder that are not hidden.
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

fn every_client_fetches_everything(server: &str, tls: bool) {
    let place = tempfile::tempdir().unwrap();
    let (_server, address) = serve(server, place.path(), tls);
    let expected = contents(&root().join("images"));
    assert_eq!(expected.len(), 14);
    for fetch in FETCHERS {
        let mut args = vec!["--addr", &address, "--out", fetch];
        args.extend(tls.then_some(["--cert", "cert.pem"]).into_iter().flatten());
        let said = Process::start(fetch, &args, place.path()).succeeds();
        assert_eq!(said, ["fetched 14 images, each verified; 0 failed"]);
        let got = contents(&place.path().join(fetch));
        assert!(got == expected, "{server} and {fetch}: {:?}", got.keys());
    }
    if tls {
        // Plain TCP is not served beside it.
        for fetch in FETCHERS {
            let args = ["--addr", &address, "--out", "plain"];
            let error = Process::start(fetch, &args, place.path()).fails();
            assert!(error.contains("TLS"), "{error}");
        }
    }
}

#[test]
fn serve_tokio_serves_every_client() {
    every_client_fetches_everything("serve_tokio", false);
}

#[test]
fn serve_async_std_serves_every_client() {
    every_client_fetches_everything("serve_async_std", false);
}

#[test]
fn serve_blocking_serves_every_client() {
    every_client_fetches_everything("serve_blocking", false);
}

#[test]
fn serve_tokio_serves_every_client_over_tls() {
    every_client_fetches_everything("serve_tokio", true);
}

#[test]
fn serve_async_std_serves_every_client_over_tls() {
    every_client_fetches_everything("serve_async_std", true);
}

#[test]
fn serve_blocking_serves_every_client_over_tls() {
    every_client_fetches_everything("serve_blocking", true);
}

#[test]
fn what_goes_wrong_is_one_line_and_a_status() {
    let place = tempfile::tempdir().unwrap();
    for server in ["serve_tokio", "serve_async_std", "serve_blocking"] {
        let error = Process::start(server, &["--bind"], place.path()).fails();
        assert_eq!(error, "error: usage: --bind ADDR --images DIR [--tls]");
        let args = ["--bind", "127.0.0.1:0", "--images", "missing"];
        let error = Process::start(server, &args, place.path()).fails();
        assert!(error.contains("missing"), "{error}");
    }
    for fetch in FETCHERS {
        let error = Process::start(fetch, &[], place.path()).fails();
        assert_eq!(
            error,
            "error: usage: --addr HOST:PORT --out DIR [--cert PEM]"
        );
        let args = [
            "--addr",
            "127.0.0.1:1",
            "--out",
            "out",
            "--cert",
            "missing.pem",
        ];
        let error = Process::start(fetch, &args, place.path()).fails();
        assert!(error.contains("missing.pem"), "{error}");
    }
}

#[test]
fn a_key_of_the_program_server_keeps_its_certificate() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("cert.pem"), "theirs").unwrap();
    fs::write(place.path().join("key.pem"), "theirs").unwrap();
    let args = ["--bind", "127.0.0.1:0", "--images", ".", "--tls"];
    Process::start("serve_blocking", &args, place.path()).fails();
    assert_eq!(fs::read(place.path().join("cert.pem")).unwrap(), b"theirs");
}

#[test]
fn an_image_that_stays_broken_is_a_failure() {
    use std::io::Write;
    use std::net::TcpListener;

    // One entry, then a packet for it whose bytes are another image's, however often it is asked for.
    let list = b"JTPL\x01\0\0\0\0\0\0\0\x07\x03\0\x05a.bmp\x01".to_vec();
    let packet = b"\x03\x01\0\0\0\0\0\0\0\x07x".as_slice();
    for fetch in FETCHERS {
        let place = tempfile::tempdir().unwrap();
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
        let (status, stdout, stderr) = Process::start(fetch, &args, place.path()).end();
        assert_eq!(status.code(), Some(1), "{fetch}: {stdout:?}; {stderr:?}");
        assert_eq!(stdout, ["fetched 0 images, each verified; 1 failed"]);
        assert_eq!(stderr.last().unwrap(), "error: 1 of the images failed");
        assert!(contents(&place.path().join("out")).is_empty());
        serving.join().unwrap();
    }
}

#[test]
fn the_main_job_ends_well() {
    let said = Process::start("sync", &[], &root()).succeeds();
    assert_eq!(said.last().unwrap(), "both folders hold the same images");
    // README.md shows the same, but for the port, the time, and the pictures that … stands for.
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
    let ends = [&said[..gap], &said[said.len() - behind..]].concat();
    let shown = [&shown[..gap], &shown[gap + 1..]].concat();
    for (said, shown) in ends.iter().zip(shown) {
        assert_eq!(words(said), words(shown));
    }
}

#[test]
fn the_core_alone_tells_each_byte() {
    let said = Process::start("sans_io", &[], &root()).succeeds();
    let has = |way: &str, bytes: &str, what: &str| {
        let start = format!("  {way}  {bytes} ");
        assert!(
            said.iter()
                .any(|l| l.starts_with(&start) && l.contains(what)),
            "{said:#?}"
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
fn a_store_of_ones_own_is_served() {
    let said = Process::start("memory_store", &[], &root()).succeeds();
    let verified = said
        .iter()
        .filter(|line| line.ends_with("196623 bytes came, verified"));
    assert_eq!(verified.count(), 4, "{said:#?}");
}

#[test]
fn the_cost_of_idle_connections_is_measured() {
    let place = tempfile::tempdir().unwrap();
    let (_server, address) = serve("serve_tokio", place.path(), false);
    let said = Process::start("idle_load", &[&address, "3", "1", "5"], &root()).succeeds();
    assert!(said.last().unwrap().starts_with("p99 ratio: "), "{said:?}");
}
