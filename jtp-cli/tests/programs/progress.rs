//! What the client shows while it works: at a terminal, and in a log.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use jtp_core::ImageId;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{
    CLIENT, FakeServer, Output, TestDir, images_response, list_response, noise, packet,
};

/// A program whose stderr is a terminal.
struct AtTerminal {
    child: Child,
    shown: Receiver<Vec<u8>>,
    text: String,
}

impl AtTerminal {
    fn start(mut command: Command) -> AtTerminal {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&main).unwrap();
        unlockpt(&main).unwrap();
        let name = ptsname(&main, Vec::new()).unwrap().into_string().unwrap();
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name)
            .unwrap();
        command
            .env("TERM", "xterm")
            .stdout(Stdio::piped())
            .stderr(terminal);
        let child = command.spawn().unwrap();
        // The parent's copy of the terminal ends with the command.
        drop(command);
        let (sender, shown) = mpsc::channel();
        thread::spawn(move || {
            let mut main = File::from(main);
            let mut buffer = [0; 4096];
            // An error once the program has ended.
            while let Ok(length @ 1..) = main.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        AtTerminal {
            child,
            shown,
            text: String::new(),
        }
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        while !self.text.contains(text) {
            let shown = self.shown.recv_timeout(Duration::from_secs(60));
            let shown = shown.unwrap_or_else(|error| panic!("no {text}: {error}: {}", self.text));
            self.text += &String::from_utf8_lossy(&shown);
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the exit. `err`: all that was shown.
    fn wait(mut self) -> Output {
        let mut out = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .unwrap();
        let code = self.child.wait().unwrap().code();
        for shown in &self.shown {
            self.text += &String::from_utf8_lossy(&shown);
        }
        Output {
            code,
            out,
            err: std::mem::take(&mut self.text),
            ..Output::default()
        }
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that sends half of an image of this length, and the rest when the test has seen enough.
pub(crate) fn stalling_server(length: u32, go_on: Receiver<()>) -> FakeServer {
    let image = noise(usize::try_from(length).unwrap(), 1);
    let id = ImageId::of(&image);
    let go_on = std::sync::Mutex::new(go_on);
    FakeServer::new(move |_, request, stream| {
        if request == 1 {
            // Sent once the test has seen that the client waits.
            let _ = go_on.lock().unwrap().recv();
            let _ = stream.write_all(&list_response(&[("large.png", id, length)]));
            return;
        }
        let response = images_response(request, &[packet(id, &image)]);
        let (first, rest) = response.split_at(response.len() - image.len() / 2);
        let _ = stream.write_all(first);
        let _ = go_on.lock().unwrap().recv();
        let _ = stream.write_all(rest);
    })
}

#[test]
fn a_terminal_shows_what_is_waited_for_and_the_name_of_a_large_image() {
    let dir = TestDir::new();
    let (go_on, receiver) = mpsc::channel();
    let fake = stalling_server(17 << 20, receiver);
    let command = dir.command(CLIENT, &format!("--addr {}", fake.addr()));
    let mut client = AtTerminal::start(command);
    client.wait_for(&format!("waiting for the catalog of {}", fake.addr()));
    go_on.send(()).unwrap();
    client.wait_for("0/1 images");
    client.wait_for("8.50 MiB/17.00 MiB");
    client.wait_for("large.png");
    go_on.send(()).unwrap();
    let ended = client.wait();
    ended.assert_exit(0);
    assert!(
        ended.out.starts_with("fetched 1 image (17.00 MiB)"),
        "{ended:?}"
    );
}

#[test]
fn a_terminal_shows_that_the_folder_is_scanned() {
    let dir = TestDir::new();
    dir.add_endless_images();
    let server = TestDir::with_images();
    let server = server.serve("--no-tls");
    for args in ["--batch", "--check", "--dry-run --batch"] {
        let args = format!("--addr {} --out images {args}", server.address);
        let mut client = AtTerminal::start(dir.command(CLIENT, &args));
        client.wait_for("scanning images: ");
        client.signal(Signal::INT);
        assert_eq!(client.wait().code, Some(130), "{args:?}");
    }
}

#[test]
fn a_terminal_shows_nothing_with_quiet_or_json() {
    let (go_on, receiver) = mpsc::channel();
    let fake = stalling_server(17 << 20, receiver);
    for flag in ["--quiet", "--json"] {
        let dir = TestDir::new();
        let args = format!("--addr {} {flag}", fake.addr());
        let client = AtTerminal::start(dir.command(CLIENT, &args));
        go_on.send(()).unwrap();
        go_on.send(()).unwrap();
        client.wait().assert_exit(0).assert_err("");
    }
}
