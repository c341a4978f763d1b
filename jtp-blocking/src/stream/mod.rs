//! What bytes go over, and waiting for it: for a socket by polling it, for halves that can only block by
//! polling for news from the threads that block in them.

mod bell;
mod halves;
#[cfg(feature = "tls")]
mod tls;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

pub(crate) use bell::Bell;
pub use halves::Close;
pub(crate) use halves::Halves;
#[cfg(feature = "tls")]
pub(crate) use tls::Tls;

/// The longest that a thread waits at a time, as far as one can tell for ever.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A stream whose calls never wait: they answer [`io::ErrorKind::WouldBlock`].
pub(crate) trait Stream: Read + Write + Send {
    /// Half-closes, after a good-bye if there is one. // S11
    fn finish(&mut self) -> io::Result<()>;

    /// What to poll in order to read, to write, or both.
    fn interest(&self, read: bool, write: bool) -> (BorrowedFd<'_>, PollFlags);

    /// A wait has ended; what it was for is looked at next.
    fn woken(&mut self) {}
}

/// Plain TCP, in non-blocking mode.
impl Stream for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn interest(&self, read: bool, write: bool) -> (BorrowedFd<'_>, PollFlags) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, read);
        flags.set(PollFlags::OUT, write);
        (self.as_fd(), flags)
    }
}

impl<T: Stream + ?Sized> Stream for Box<T> {
    fn finish(&mut self) -> io::Result<()> {
        (**self).finish()
    }

    fn interest(&self, read: bool, write: bool) -> (BorrowedFd<'_>, PollFlags) {
        (**self).interest(read, write)
    }

    fn woken(&mut self) {
        (**self).woken();
    }
}

/// Waits until the stream can be read or written, one of the bells has rung, or the time is over.
pub(crate) fn wait<T: Stream + ?Sized>(
    stream: &mut T,
    read: bool,
    write: bool,
    bells: &[&Bell],
    limit: Option<Duration>,
) -> io::Result<()> {
    let (fd, flags) = stream.interest(read, write);
    // Without interest the end of the connection would be told again and again.
    let own = (!flags.is_empty()).then(|| PollFd::from_borrowed_fd(fd, flags));
    wait_for(own, bells, limit)?;
    stream.woken();
    Ok(())
}

/// Waits until something comes to a listener, one of the bells has rung, or the time is over.
pub(crate) fn wait_for(
    own: Option<PollFd<'_>>,
    bells: &[&Bell],
    limit: Option<Duration>,
) -> io::Result<()> {
    let bells = bells
        .iter()
        .map(|bell| PollFd::from_borrowed_fd(bell.fd(), PollFlags::IN));
    let mut fds: Vec<PollFd<'_>> = own.into_iter().chain(bells).collect();
    let limit = limit.unwrap_or(LONGEST).min(LONGEST);
    let limit = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
    match poll(&mut fds, Some(&limit)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a call that never waits had nothing to do.
pub(crate) fn is_blocked(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
