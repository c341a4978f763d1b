//! The runtimes, each with a clock that may be accelerated.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use jtp_driver::{BoxFuture, Runtime, Sleep};

/// A runtime that the engine runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    Tokio,
    AsyncStd,
    Smol,
    Blocking,
}

impl World {
    pub(crate) const ALL: [World; 4] =
        [World::Tokio, World::AsyncStd, World::Smol, World::Blocking];
}

/// A runtime whose clock runs `rate` times as fast as the real one.
#[derive(Debug, Clone)]
pub(crate) struct Accelerated<R> {
    inner: R,
    epoch: Instant,
    rate: u32,
}

impl<R> Accelerated<R> {
    pub(crate) fn new(inner: R, rate: u32) -> Accelerated<R> {
        Accelerated {
            inner,
            epoch: Instant::now(),
            rate,
        }
    }

    /// The real time at which the clock shows `deadline`.
    fn real(&self, deadline: Instant) -> Instant {
        real(self.epoch, self.rate, deadline)
    }
}

fn real(epoch: Instant, rate: u32, deadline: Instant) -> Instant {
    epoch + deadline.saturating_duration_since(epoch) / rate
}

impl<R: Runtime> Runtime for Accelerated<R> {
    type Sleep = AcceleratedSleep<R>;
    type Socket = R::Socket;
    type Listener = R::Listener;

    fn now(&self) -> Instant {
        self.epoch + self.epoch.elapsed() * self.rate
    }

    fn sleep_until(&self, deadline: Instant) -> AcceleratedSleep<R> {
        AcceleratedSleep {
            sleep: self.inner.sleep_until(self.real(deadline)),
            epoch: self.epoch,
            rate: self.rate,
        }
    }

    fn spawn(&self, name: fmt::Arguments<'_>, task: BoxFuture<()>) -> io::Result<()> {
        self.inner.spawn(name, task)
    }

    async fn accept(&self, listener: &R::Listener) -> io::Result<(R::Socket, SocketAddr)> {
        self.inner.accept(listener).await
    }

    async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        self.inner.resolve(address).await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<R::Socket> {
        self.inner.connect(address).await
    }
}

/// A timer of an accelerated clock.
pub(crate) struct AcceleratedSleep<R: Runtime> {
    sleep: R::Sleep,
    epoch: Instant,
    rate: u32,
}

impl<R: Runtime> Future for AcceleratedSleep<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.sleep).poll(cx)
    }
}

impl<R: Runtime> Sleep for AcceleratedSleep<R> {
    fn reset(&mut self, deadline: Instant) {
        let deadline = real(self.epoch, self.rate, deadline);
        self.sleep.reset(deadline);
    }
}
