//! Signals on Unix.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};

use super::{AtStart, Hangups};

/// See [`super::prepare`].
pub(super) fn prepare() -> AtStart {
    // With a handler, the write fails with EFBIG. Without one the process ends at such a write, as it did before.
    let _ = signal_hook::flag::register(Signal::SIGXFSZ as i32, Arc::default());
    AtStart {
        ignores_interrupt: is_ignored(Signal::SIGINT),
        ignores_hangup: is_ignored(Signal::SIGHUP),
    }
}

/// The signals that end the program.
pub(super) struct Signals(Vec<tokio::signal::unix::Signal>);

impl Signals {
    /// SIGTERM and these.
    pub(super) fn new(interrupt: bool, hangup: bool) -> io::Result<Signals> {
        let mut ending = vec![Signal::SIGTERM];
        ending.extend(interrupt.then_some(Signal::SIGINT));
        ending.extend(hangup.then_some(Signal::SIGHUP));
        let kinds = ending
            .iter()
            .map(|signal| SignalKind::from_raw(*signal as i32));
        let signals = kinds.map(signal).collect::<io::Result<_>>()?;
        // They are delivered to any thread that does not block them: this one is enough.
        let set: SigSet = ending.into_iter().chain([Signal::SIGHUP]).collect();
        set.thread_unblock()?;
        Ok(Signals(signals))
    }

    pub(super) async fn next(&mut self) {
        poll_fn(|context| {
            let any =
                |signal: &mut tokio::signal::unix::Signal| signal.poll_recv(context).is_ready();
            match self.0.iter_mut().any(any) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

/// Exits without the clean-up of the standard library. That writes what is buffered for stdout, which nobody may read.
pub(super) fn exit(code: i32) -> ! {
    signal_hook::low_level::exit(code)
}

/// Whether the parent process has made this one ignore a signal.
///
/// A program can read that only by code that counts as unsafe, except on Linux. Elsewhere a program without a terminal
/// is treated as one that `nohup` has started: it does not handle SIGHUP. The effect is what the parent has chosen,
/// either none, or to end the process, which leaves no partial file.
fn is_ignored(signal: Signal) -> bool {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        return ignored_in(&status, signal);
    }
    let has_terminal = std::io::IsTerminal::is_terminal(&io::stderr());
    signal == Signal::SIGHUP && !has_terminal
}

/// Whether a signal is in the set `SigIgn` of `/proc/PID/status`.
fn ignored_in(status: &str, signal: Signal) -> bool {
    let mut lines = status.lines();
    let set = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    let bit = 1_u64 << (signal as u32 - 1);
    set.is_some_and(|set| set & bit != 0)
}

/// Reports each SIGHUP to `hangups`.
pub(super) fn forward(hangups: Option<Hangups>) -> io::Result<impl Future<Output = Infallible>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "Name:\tclient\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(ignored_in(status, Signal::SIGHUP));
        assert!(ignored_in(status, Signal::SIGPIPE));
        assert!(!ignored_in(status, Signal::SIGINT));
        for unreadable in ["", "SigIgn:\t\n", "SigIgn:\tx\n"] {
            assert!(!ignored_in(unreadable, Signal::SIGHUP), "{unreadable}");
        }
    }
}
