//! Ctrl-C and SIGTERM: the first requests a shutdown, the second exits the process.

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::sync::watch;

use crate::exit::{Exit, Failure};

/// The shutdown request of the user. Can be awaited on any runtime and thread.
#[derive(Debug, Clone)]
pub struct ShutdownSignal(watch::Receiver<bool>);

impl ShutdownSignal {
    /// Waits for a shutdown request.
    pub async fn requested(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            // The sender was dropped: no request can follow.
            std::future::pending::<()>().await;
        }
    }

    /// Whether a shutdown was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Creates a signal with its sender; sending `true` requests the shutdown.
    #[must_use]
    pub fn channel() -> (watch::Sender<bool>, ShutdownSignal) {
        let (sender, receiver) = watch::channel(false);
        (sender, ShutdownSignal(receiver))
    }
}

/// Listens for signals on a dedicated thread, so that a main thread blocked on the disk does not delay them.
///
/// A second signal exits the process immediately with the code `second`.
///
/// # Errors
///
/// The signal handlers cannot be installed.
pub fn listen(second: Exit) -> Result<ShutdownSignal, Failure> {
    let (sender, shutdown) = ShutdownSignal::channel();
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
                Ok(runtime) => runtime.block_on(wait(&sender, &ready, second)),
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

async fn wait(shutdown: &watch::Sender<bool>, ready: &mpsc::Sender<io::Result<()>>, second: Exit) {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return drop(ready.send(Err(error))),
    };
    // Fails only if the main thread is gone, which means that the process is exiting.
    let _ = ready.send(Ok(()));
    signals.next().await;
    shutdown.send_replace(true);
    signals.next().await;
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
