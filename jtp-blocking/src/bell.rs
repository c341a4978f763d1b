//! What wakes a thread that waits for a socket.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use rustix::fd::BorrowedFd;

use crate::wait::{PollFlags, Source, wait_for};

/// A flag that any number of threads can wait for together with their sockets.
#[derive(Debug)]
pub struct Bell {
    wire: wire::Wire,
    rung: AtomicBool,
}

impl jtp_driver::Bell for Bell {
    fn new() -> io::Result<Bell> {
        Ok(Bell {
            wire: wire::Wire::new()?,
            rung: AtomicBool::new(false),
        })
    }

    fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // It fits in always: there is hardly ever a byte before.
            let _ = self.wire.send();
        }
    }

    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }

    async fn rung(self: Arc<Self>) {
        poll_fn(|_| {
            if self.is_rung() {
                return Poll::Ready(());
            }
            wait_for(Arc::clone(&self) as Arc<dyn Source>, PollFlags::IN)
        })
        .await;
    }
}

impl Bell {
    /// Makes it as if it had never rung: for one who waits for it alone, and before looking at what it may
    /// have rung for.
    pub(crate) fn clear(&self) {
        // The flag last: who rings in between need not send, for the look comes after.
        self.wire.receive();
        self.rung.store(false, Ordering::SeqCst);
    }
}

impl Source for Bell {
    /// What can be read once it has rung.
    fn fd(&self) -> BorrowedFd<'_> {
        self.wire.fd()
    }
}

#[cfg(unix)]
mod wire {
    use std::io::{self, Read, Write};
    use std::os::unix::net::UnixStream;

    use rustix::fd::{AsFd, BorrowedFd};

    #[derive(Debug)]
    pub(super) struct Wire {
        from: UnixStream,
        to: UnixStream,
    }

    impl Wire {
        pub(super) fn new() -> io::Result<Wire> {
            let (from, to) = UnixStream::pair()?;
            from.set_nonblocking(true)?;
            to.set_nonblocking(true)?;
            Ok(Wire { from, to })
        }

        pub(super) fn send(&self) -> io::Result<usize> {
            (&self.to).write(&[1])
        }

        pub(super) fn receive(&self) {
            let _ = (&self.from).read(&mut [0; 64]);
        }

        pub(super) fn fd(&self) -> BorrowedFd<'_> {
            self.from.as_fd()
        }
    }
}

#[cfg(not(unix))]
mod wire {
    use std::io;
    use std::net::{Ipv4Addr, UdpSocket};

    use rustix::fd::{AsFd, BorrowedFd};

    /// A socket that sends to itself and hears nobody else.
    #[derive(Debug)]
    pub(super) struct Wire(UdpSocket);

    impl Wire {
        pub(super) fn new() -> io::Result<Wire> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(socket.local_addr()?)?;
            socket.set_nonblocking(true)?;
            Ok(Wire(socket))
        }

        pub(super) fn send(&self) -> io::Result<usize> {
            self.0.send(&[1])
        }

        pub(super) fn receive(&self) {
            while self.0.recv(&mut [0]).is_ok() {}
        }

        pub(super) fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}
