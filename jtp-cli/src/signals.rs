//! Ctrl-C and SIGTERM: the first asks to stop, the second ends the process.

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::sync::watch;

use crate::exit::{Exit, Failure};

/// Tells whether the user wants to stop. Works on every runtime and thread.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits until the user wants to stop.
    pub async fn requested(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            // Nobody can ask any more.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the user wants to stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// One that is never requested, with its other end: `true` requests it.
    #[must_use]
    pub fn by_hand() -> (watch::Sender<bool>, Stop) {
        let (sender, receiver) = watch::channel(false);
        (sender, Stop(receiver))
    }
}

/// Starts to listen, on a thread of its own: a main thread that waits for the disk holds up nothing.
///
/// After a second signal the process ends at once, with `second` as its code.
///
/// # Errors
///
/// The system does not let it listen.
pub fn listen(second: Exit) -> Result<Stop, Failure> {
    let (sender, stop) = Stop::by_hand();
    let (ready, started) = mpsc::channel();
    let failed = |error: io::Error| Failure::other(format!("cannot listen for signals: {error}"));
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
        Ok(Ok(())) => Ok(stop),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(Failure::other("cannot listen for signals")),
    }
}

async fn wait(stop: &watch::Sender<bool>, ready: &mpsc::Sender<io::Result<()>>, second: Exit) {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return drop(ready.send(Err(error))),
    };
    // Whoever started this has gone if it fails; then the process is at its end.
    let _ = ready.send(Ok(()));
    signals.next().await;
    stop.send_replace(true);
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
        // Without a way to be asked, the user can still kill the process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
