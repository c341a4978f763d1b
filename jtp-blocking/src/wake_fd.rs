//! A descriptor that becomes readable when another thread writes to it.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use eventfd::WakeFd;
#[cfg(not(unix))]
pub(crate) use loopback::WakeFd;
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
pub(crate) use socket_pair::WakeFd;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod eventfd {
    use std::io;

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

    /// An eventfd: one descriptor.
    #[derive(Debug)]
    pub(crate) struct WakeFd(OwnedFd);

    impl WakeFd {
        pub(crate) fn new() -> io::Result<WakeFd> {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            Ok(WakeFd(eventfd(0, flags)?))
        }

        pub(crate) fn write(&self) {
            // Fails only if the counter is at its maximum; it is readable then.
            let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
        }

        pub(crate) fn drain(&self) {
            let _ = rustix::io::read(&self.0, &mut [0; 8]);
        }
    }

    impl AsFd for WakeFd {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
mod socket_pair {
    use std::io::{self, Read, Write};
    use std::os::unix::net::UnixStream;

    use rustix::fd::{AsFd, BorrowedFd};

    /// A pair of connected sockets: two descriptors.
    #[derive(Debug)]
    pub(crate) struct WakeFd {
        reader: UnixStream,
        writer: UnixStream,
    }

    impl WakeFd {
        pub(crate) fn new() -> io::Result<WakeFd> {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            writer.set_nonblocking(true)?;
            Ok(WakeFd { reader, writer })
        }

        pub(crate) fn write(&self) {
            // Fails only if the buffer is full; it is readable then.
            let _ = (&self.writer).write(&[1]);
        }

        pub(crate) fn drain(&self) {
            let _ = (&self.reader).read(&mut [0; 64]);
        }
    }

    impl AsFd for WakeFd {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.reader.as_fd()
        }
    }
}

#[cfg(not(unix))]
mod loopback {
    use std::io;
    use std::net::{Ipv4Addr, UdpSocket};

    use rustix::fd::{AsFd, BorrowedFd};

    /// A UDP socket that is connected to itself, so that it receives from no other socket.
    #[derive(Debug)]
    pub(crate) struct WakeFd(UdpSocket);

    impl WakeFd {
        pub(crate) fn new() -> io::Result<WakeFd> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(socket.local_addr()?)?;
            socket.set_nonblocking(true)?;
            Ok(WakeFd(socket))
        }

        pub(crate) fn write(&self) {
            // Fails only if the buffer is full; it is readable then.
            let _ = self.0.send(&[1]);
        }

        pub(crate) fn drain(&self) {
            while self.0.recv(&mut [0]).is_ok() {}
        }
    }

    impl AsFd for WakeFd {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}
