//! Signals. The first Ctrl-C or SIGTERM requests a shutdown, the second exits the process. SIGHUP does the same to the
//! client; the server reads files again. On Windows, Ctrl-Break, closing the console and the system's shutdown do the
//! same as Ctrl-C.
//!
//! What a parent process has done to a signal is respected where people rely on it: `nohup` ignores SIGHUP, and a shell
//! ignores SIGINT for what a script starts in the background. Both stay ignored. A parent that ignores or blocks SIGTERM
//! would make a program that nobody can stop but by SIGKILL, so that is undone.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(not(unix))]
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use jtp_tokio::ShutdownSignal;
use tokio::sync::Notify;

use crate::exit::{Exit, Failure};
use crate::logging;
#[cfg(unix)]
use unix::{Signals, exit, forward};
#[cfg(windows)]
use windows::Signals;

/// How long the second signal waits for the last lines of the server's log.
const LAST_LINES: Duration = Duration::from_millis(100);

/// How long a client that was interrupted removes its temporary files. After that it exits as by a second signal: the
/// disk or the reader of its output may block it, and nobody sends a second SIGHUP. Less than the 10 s after which Docker
/// kills.
const CLEANUP_TIME: Duration = Duration::from_secs(5);

/// What the parent process has done to signals.
#[derive(Debug, Clone, Copy)]
pub struct AtStart {
    ignores_interrupt: bool,
    ignores_hangup: bool,
}

/// Prepares the process for signals. Called first of all: later a server cannot read what its parent process has done.
///
/// From now on, writes over the limit of a file's size (`ulimit -f`) fail, and do not end the process.
#[must_use]
pub fn prepare() -> AtStart {
    #[cfg(unix)]
    return unix::prepare();
    #[cfg(not(unix))]
    AtStart {
        ignores_interrupt: false,
        ignores_hangup: false,
    }
}

/// Listens for signals on a dedicated thread, so that a main thread blocked on the disk does not delay them.
///
/// A second signal exits the process immediately with the code 130, and the first does after 5 s.
///
/// # Errors
///
/// The signal handlers cannot be installed.
pub fn listen_as_client(at_start: AtStart) -> Result<ShutdownSignal, Failure> {
    start(Ending {
        at_start,
        hangups: None,
        patience: Some(CLEANUP_TIME),
        exit: Exit::Interrupted,
    })
}

/// The same for the server, without a limit of the time, and with the code 1. On Unix also for SIGHUP, which does not end
/// the process from then on.
///
/// # Errors
///
/// The signal handlers cannot be installed.
pub fn listen_as_server(at_start: AtStart) -> Result<(ShutdownSignal, Hangups), Failure> {
    let hangups = Hangups::default();
    let shutdown = start(Ending {
        at_start,
        hangups: Some(hangups.clone()),
        patience: None,
        exit: Exit::Other,
    })?;
    Ok((shutdown, hangups))
}

/// SIGHUPs, for the one task that acts on them.
#[derive(Debug, Clone, Default)]
pub struct Hangups(Arc<Notify>);

impl Hangups {
    /// Waits for a SIGHUP since the last call. Several are one.
    pub async fn next(&self) {
        self.0.notified().await;
    }
}

/// What signals do to a program.
struct Ending {
    at_start: AtStart,
    /// Notified of a SIGHUP. Otherwise that ends the program, too.
    hangups: Option<Hangups>,
    /// How long the program may take to end.
    patience: Option<Duration>,
    /// The code of an exit without a shutdown.
    exit: Exit,
}

fn start(ending: Ending) -> Result<ShutdownSignal, Failure> {
    let shutdown = ShutdownSignal::new();
    let requested = shutdown.clone();
    let (ready, started) = mpsc::channel();
    let failed =
        |error: io::Error| Failure::other(format!("cannot install signal handlers: {error}"));
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(wait(&requested, ending, &ready)),
                Err(error) => drop(ready.send(Err(error))),
            }
        })
        .map_err(failed)?;
    match started.recv() {
        Ok(Ok(())) => Ok(shutdown),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(Failure::other("cannot install signal handlers")),
    }
}

async fn wait(shutdown: &ShutdownSignal, ending: Ending, ready: &mpsc::Sender<io::Result<()>>) {
    let interrupt = !ending.at_start.ignores_interrupt;
    let hangup = !ending.at_start.ignores_hangup && ending.hangups.is_none();
    let signals = Signals::new(interrupt, hangup);
    let installed = signals.and_then(|signals| Ok((signals, forward(ending.hangups)?)));
    let (mut signals, forwarding) = match installed {
        Ok(installed) => installed,
        Err(error) => return drop(ready.send(Err(error))),
    };
    // Fails only if the main thread is gone, which means that the process is exiting.
    let _ = ready.send(Ok(()));
    let ended = async {
        signals.next().await;
        shutdown.begin();
        let second = signals.next();
        match ending.patience {
            Some(patience) => drop(tokio::time::timeout(patience, second).await),
            None => second.await,
        }
    };
    tokio::select! {
        () = ended => {}
        never = forwarding => match never {},
    }
    logging::flush(LAST_LINES);
    exit(ending.exit.code().into());
}

#[cfg(not(unix))]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

#[cfg(not(unix))]
fn forward(_: Option<Hangups>) -> io::Result<impl Future<Output = Infallible>> {
    Ok(std::future::pending())
}

#[cfg(not(any(unix, windows)))]
struct Signals;

#[cfg(not(any(unix, windows)))]
impl Signals {
    fn new(_: bool, _: bool) -> io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) {
        // Without Ctrl-C, the user can still kill the process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
