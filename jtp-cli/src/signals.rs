//! Ctrl-C and SIGTERM: the first requests a shutdown, the second exits the process. On Windows so do Ctrl-Break, closing
//! the console, and the system's shutdown. SIGHUP: the server reads files again.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use jtp_tokio::ShutdownSignal;
use tokio::sync::Notify;

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
    start(second, None)
}

/// [`listen`], and on Unix for SIGHUP, which does not end the process from then on.
///
/// # Errors
///
/// The signal handlers cannot be installed.
pub fn listen_as_server(second: Exit) -> Result<(ShutdownSignal, Hangups), Failure> {
    let hangups = Hangups::default();
    let shutdown = start(second, Some(hangups.clone()))?;
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

fn start(second: Exit, hangups: Option<Hangups>) -> Result<ShutdownSignal, Failure> {
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
                Ok(runtime) => runtime.block_on(wait(&requested, hangups, &ready, second)),
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

async fn wait(
    shutdown: &ShutdownSignal,
    hangups: Option<Hangups>,
    ready: &mpsc::Sender<io::Result<()>>,
    second: Exit,
) {
    let installed = Signals::new().and_then(|signals| Ok((signals, forward(hangups)?)));
    let (mut signals, forwarding) = match installed {
        Ok(installed) => installed,
        Err(error) => return drop(ready.send(Err(error))),
    };
    // Fails only if the main thread is gone, which means that the process is exiting.
    let _ = ready.send(Ok(()));
    let ending = async {
        signals.next().await;
        shutdown.begin();
        signals.next().await;
    };
    tokio::select! {
        () = ending => {}
        never = forwarding => match never {},
    }
    logging::flush(LAST_LINES);
    std::process::exit(second.code().into());
}

/// Reports each SIGHUP to `hangups`.
#[cfg(unix)]
fn forward(hangups: Option<Hangups>) -> io::Result<impl Future<Output = Infallible>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut arriving = match hangups {
        Some(hangups) => Some((signal(SignalKind::hangup())?, hangups)),
        None => None,
    };
    Ok(async move {
        while let Some((signal, hangups)) = &mut arriving {
            if signal.recv().await.is_none() {
                break;
            }
            hangups.0.notify_one();
        }
        std::future::pending().await
    })
}

#[cfg(not(unix))]
fn forward(_: Option<Hangups>) -> io::Result<impl Future<Output = Infallible>> {
    Ok(std::future::pending())
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

/// Ctrl-C, Ctrl-Break, the window being closed, and the system's shutdown. After one of the last two, Windows ends the
/// process in a few seconds.
#[cfg(windows)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    stop: tokio::signal::windows::CtrlBreak,
    close: tokio::signal::windows::CtrlClose,
    shutdown: tokio::signal::windows::CtrlShutdown,
}

#[cfg(windows)]
impl Signals {
    fn new() -> io::Result<Signals> {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(Signals {
            interrupt: ctrl_c()?,
            stop: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.stop.recv() => {}
            _ = self.close.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }
}

#[cfg(not(any(unix, windows)))]
struct Signals;

#[cfg(not(any(unix, windows)))]
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
