//! A connection in memory: two directions, each shaped, and what a script does to them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Pieces, Shape};
use crate::suite::script::Cut;

/// Which end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

struct Direction {
    bytes: VecDeque<u8>,
    reads: Pieces,
    writes: Pieces,
    /// Nothing more will be written; what is there can be read.
    ended: bool,
    /// Nobody reads any more: what is written disappears.
    deaf: bool,
    /// How much was written, and how much may be.
    written: u64,
    read: u64,
    cut: Option<u64>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn new(shape: Shape, salt: u64, cut: Option<u64>) -> Direction {
        Direction {
            bytes: VecDeque::new(),
            reads: Pieces::new(shape, salt),
            writes: Pieces::new(shape, salt + 1),
            ended: cut == Some(0),
            deaf: false,
            written: 0,
            read: 0,
            cut,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

struct State {
    up: Direction,
    down: Direction,
    /// Nothing comes down until the server has read so many bytes.
    held: Option<u64>,
    stalled: bool,
    /// How many operations the client may still begin that block.
    sever_at: Option<usize>,
}

impl State {
    fn incoming(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Client => &mut self.down,
            Side::Server => &mut self.up,
        }
    }

    fn outgoing(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Client => &mut self.up,
            Side::Server => &mut self.down,
        }
    }

    fn is_held(&mut self) -> bool {
        let up = &self.up;
        if self.held.is_some_and(|mark| up.read >= mark) || up.ended {
            self.held = None;
        }
        self.held.is_some() || self.stalled
    }
}

/// The connection itself.
pub(crate) struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

impl Wire {
    pub(crate) fn new(shape: Shape, cut: Cut) -> Arc<Wire> {
        Arc::new(Wire {
            state: Mutex::new(State {
                up: Direction::new(shape, 1, cut.up),
                down: Direction::new(shape, 3, cut.down),
                held: None,
                stalled: false,
                sever_at: None,
            }),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: &mut State) {
        state.up.wake();
        state.down.wake();
        self.changed.notify_all();
    }

    /// Until the server has read so many bytes more, nothing comes down.
    pub(crate) fn hold(&self, least: u64) {
        let mut state = self.state();
        state.held = Some(state.up.written + least);
    }

    pub(crate) fn stall(&self, stalled: bool) {
        let mut state = self.state();
        state.stalled = stalled;
        self.tell(&mut state);
    }

    /// How much the client has put in and has taken out.
    pub(crate) fn passed(&self) -> (u64, u64) {
        let state = self.state();
        (state.up.written, state.down.read)
    }

    /// A client that can only block finds this closed when it reads or writes for that time.
    pub(crate) fn sever_at(&self, operation: usize) {
        self.state().sever_at = Some(operation);
    }

    pub(crate) fn is_severed(&self) -> bool {
        self.state().sever_at == Some(0)
    }

    /// Counts down; whether the stream is closed now.
    fn severs(&self) -> bool {
        let mut state = self.state();
        match state.sever_at {
            Some(0) => {
                state.up.ended = true;
                state.down.deaf = true;
                state.down.ended = true;
                state.down.bytes.clear();
                self.tell(&mut state);
                true
            }
            Some(left) => {
                state.sever_at = Some(left - 1);
                false
            }
            None => false,
        }
    }

    /// Waits until the server has read all that was written.
    pub(crate) fn await_read(&self) {
        let mut state = self.state();
        while state.up.read < state.up.written && !state.up.deaf {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Fills the buffer, whole slices at a time.
fn take(bytes: &mut VecDeque<u8>, buf: &mut [u8]) {
    let (first, second) = bytes.as_slices();
    let count = first.len().min(buf.len());
    let (head, tail) = buf.split_at_mut(count);
    head.copy_from_slice(&first[..count]);
    tail.copy_from_slice(&second[..tail.len()]);
    bytes.drain(..buf.len());
}

/// One end. All its clones are the same end, which is gone with the last of them.
#[derive(Clone)]
pub(crate) struct End(Arc<Handle>);

struct Handle {
    wire: Arc<Wire>,
    side: Side,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.wire.close(self.side);
    }
}

pub(crate) fn ends(wire: &Arc<Wire>) -> (End, End) {
    let end = |side| {
        let wire = Arc::clone(wire);
        End(Arc::new(Handle { wire, side }))
    };
    (end(Side::Client), end(Side::Server))
}

impl Wire {
    fn close(&self, side: Side) {
        let mut state = self.state();
        state.outgoing(side).ended = true;
        let incoming = state.incoming(side);
        incoming.deaf = true;
        incoming.bytes.clear();
        self.tell(&mut state);
    }

    fn end(&self, side: Side) {
        let mut state = self.state();
        state.outgoing(side).ended = true;
        self.tell(&mut state);
    }

    /// As much as there is; `None` if one has to wait.
    fn read(&self, side: Side, buf: &mut [u8], may_stall: bool) -> Option<usize> {
        let mut state = self.state();
        if side == Side::Client && state.is_held() {
            return None;
        }
        let incoming = state.incoming(side);
        if buf.is_empty() || (incoming.bytes.is_empty() && incoming.ended) {
            return Some(0);
        }
        if incoming.bytes.is_empty() || (may_stall && incoming.reads.stalls()) {
            return None;
        }
        let most = incoming.reads.next();
        let count = incoming.bytes.len().min(buf.len()).min(most);
        take(&mut incoming.bytes, &mut buf[..count]);
        incoming.read += u64::try_from(count).unwrap();
        self.tell(&mut state);
        Some(count)
    }

    fn write(&self, side: Side, buf: &[u8], may_stall: bool) -> Option<io::Result<usize>> {
        let mut state = self.state();
        let outgoing = state.outgoing(side);
        if outgoing.deaf {
            return Some(Ok(buf.len())); // As into a socket whose peer has gone.
        }
        if outgoing.ended {
            // Cut off on the way, or ended by this side itself.
            return Some(match outgoing.cut {
                Some(_) => Ok(buf.len()),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            });
        }
        let room = outgoing.writes.capacity() - outgoing.bytes.len();
        if room == 0 || (may_stall && outgoing.writes.stalls()) {
            return None;
        }
        let most = outgoing.writes.next();
        let left = outgoing.cut.map_or(u64::MAX, |cut| cut - outgoing.written);
        let count = room.min(buf.len()).min(most);
        let count = usize::try_from(left).map_or(count, |left| count.min(left));
        outgoing.bytes.extend(&buf[..count]);
        outgoing.written += u64::try_from(count).unwrap();
        outgoing.ended |= outgoing.cut == Some(outgoing.written);
        self.tell(&mut state);
        Some(Ok(count))
    }
}

impl End {
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<usize> {
        let Handle { wire, side } = &*self.0;
        match wire.read(*side, buf, true) {
            Some(count) => Poll::Ready(count),
            None => {
                let mut state = wire.state();
                let held = *side == Side::Client && state.is_held();
                let incoming = state.incoming(*side);
                incoming.reader = Some(cx.waker().clone());
                if !held && (!incoming.bytes.is_empty() || incoming.ended) {
                    cx.waker().wake_by_ref(); // It was in vain for no reason, or has just changed.
                }
                Poll::Pending
            }
        }
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Handle { wire, side } = &*self.0;
        match wire.write(*side, buf, true) {
            Some(result) => Poll::Ready(result),
            None => {
                let mut state = wire.state();
                let outgoing = state.outgoing(*side);
                outgoing.writer = Some(cx.waker().clone());
                let room = outgoing.bytes.len() < outgoing.writes.capacity();
                if room || outgoing.ended || outgoing.deaf {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    /// Blocks.
    pub(crate) fn read_now(&self, buf: &mut [u8]) -> usize {
        let Handle { wire, side } = &*self.0;
        if *side == Side::Client && wire.severs() {
            return 0;
        }
        loop {
            // Looked at and waited for under different locks: what changed between them is not missed, since
            // the second look comes under the lock that the wait gives up.
            if let Some(count) = wire.read(*side, buf, false) {
                return count;
            }
            let mut state = wire.state();
            let held = *side == Side::Client && state.is_held();
            let incoming = state.incoming(*side);
            if held || (incoming.bytes.is_empty() && !incoming.ended) {
                drop(wire.changed.wait(state));
            }
        }
    }

    /// Blocks.
    pub(crate) fn write_now(&self, buf: &[u8]) -> io::Result<usize> {
        let Handle { wire, side } = &*self.0;
        if *side == Side::Client && wire.severs() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        loop {
            if let Some(result) = wire.write(*side, buf, false) {
                return result;
            }
            let mut state = wire.state();
            let outgoing = state.outgoing(*side);
            let room = outgoing.bytes.len() < outgoing.writes.capacity();
            if !room && !outgoing.ended && !outgoing.deaf {
                drop(wire.changed.wait(state));
            }
        }
    }

    /// Half-closes.
    pub(crate) fn finish(&self) {
        self.0.wire.end(self.0.side);
    }

    pub(crate) fn close(&self) {
        self.0.wire.close(self.0.side);
    }
}
