//! Ctrl-C and SIGTERM: the first requests a shutdown, the second exits the process.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use jtp_tokio::ShutdownSignal;

use crate::exit::{Exit, Failure};
use crate::logging;

/// How long the second signal waits for the last lines of the server's log.
const LAST_LINES: Duration = Duration::from_millis(100);

/// Listens for signals on a dedicated thread, so that a main thread blocked on the disk does not delay them.
///
/// A second signal exits the process immediately with the code `second`.
///
/// # Errors
///
/// The signal handlers cannot be installed.
pub fn listen(second: Exit) -> Result<ShutdownSignal, Failure> {
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
                Ok(runtime) => runtime.block_on(wait(&requested, &ready, second)),
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

async fn wait(shutdown: &ShutdownSignal, ready: &mpsc::Sender<io::Result<()>>, second: Exit) {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return drop(ready.send(Err(error))),
    };
    // Fails only if the main thread is gone, which means that the process is exiting.
    let _ = ready.send(Ok(()));
    signals.next().await;
    shutdown.begin();
    signals.next().await;
    logging::flush(LAST_LINES);
    std::process::exit(second.code().into());
}

#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals(
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) {
        // Without Ctrl-C, the user can still kill the process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
