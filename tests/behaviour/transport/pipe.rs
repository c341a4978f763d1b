//! A connection in memory: two directions, each with a shape, controlled by the script.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{PieceSizes, Shape};
use crate::suite::script::Cut;

/// Which end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

struct Direction {
    bytes: VecDeque<u8>,
    reads: PieceSizes,
    writes: PieceSizes,
    /// The writer has closed. Buffered bytes can still be read.
    ended: bool,
    /// The reader has closed. Writes are discarded.
    reader_closed: bool,
    written: u64,
    /// The number of bytes after which the direction ends.
    cut: Option<u64>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn new(shape: Shape, salt: u64, cut: Option<u64>) -> Direction {
        Direction {
            bytes: VecDeque::new(),
            reads: PieceSizes::new(shape, salt),
            writes: PieceSizes::new(shape, salt + 1),
            ended: cut == Some(0),
            reader_closed: false,
            written: 0,
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
    /// Nothing is delivered to the client.
    stalled: bool,
    /// The number of blocking operations that the client may still begin.
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

    fn end(&mut self, side: Side) {
        self.outgoing(side).ended = true;
        self.stalled &= side == Side::Server;
    }

    fn is_stalled(&self, side: Side) -> bool {
        side == Side::Client && self.stalled
    }
}

/// A connection in memory.
pub(crate) struct MemoryConnection {
    state: Mutex<State>,
    changed: Condvar,
}

impl MemoryConnection {
    pub(crate) fn new(shape: Shape, cut: Cut) -> Arc<MemoryConnection> {
        Arc::new(MemoryConnection {
            state: Mutex::new(State {
                up: Direction::new(shape, 1, cut.up),
                down: Direction::new(shape, 3, cut.down),
                stalled: false,
                sever_at: None,
            }),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, state: &mut State) {
        state.up.wake();
        state.down.wake();
        self.changed.notify_all();
    }

    /// Delivers nothing to the client until it is called again, or the client closes.
    pub(crate) fn stall(&self, stalled: bool) {
        let mut state = self.state();
        state.stalled = stalled;
        self.notify(&mut state);
    }

    /// The number of bytes that the client has written.
    pub(crate) fn written(&self) -> u64 {
        self.state().up.written
    }

    /// Closes the stream when a blocking client reads or writes for the `operation`th time.
    pub(crate) fn sever_at(&self, operation: usize) {
        self.state().sever_at = Some(operation);
    }

    pub(crate) fn is_severed(&self) -> bool {
        self.state().sever_at == Some(0)
    }

    /// Counts one operation; returns whether the stream is closed now.
    fn count_operation(&self) -> bool {
        let mut state = self.state();
        match state.sever_at {
            Some(0) => {
                state.up.ended = true;
                state.down.reader_closed = true;
                state.down.ended = true;
                state.down.bytes.clear();
                self.notify(&mut state);
                true
            }
            Some(left) => {
                state.sever_at = Some(left - 1);
                false
            }
            None => false,
        }
    }
}

/// Fills the buffer with the first bytes of the queue.
fn take(bytes: &mut VecDeque<u8>, buf: &mut [u8]) {
    let (first, second) = bytes.as_slices();
    let count = first.len().min(buf.len());
    let (head, tail) = buf.split_at_mut(count);
    head.copy_from_slice(&first[..count]);
    tail.copy_from_slice(&second[..tail.len()]);
    bytes.drain(..buf.len());
}

/// One end of the connection. It is closed when the last of its clones is dropped.
#[derive(Clone)]
pub(crate) struct PipeEnd(Arc<Handle>);

struct Handle {
    memory: Arc<MemoryConnection>,
    side: Side,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.memory.close(self.side);
    }
}

pub(crate) fn pipe_ends(memory: &Arc<MemoryConnection>) -> (PipeEnd, PipeEnd) {
    let end = |side| {
        let memory = Arc::clone(memory);
        PipeEnd(Arc::new(Handle { memory, side }))
    };
    (end(Side::Client), end(Side::Server))
}

impl MemoryConnection {
    fn close(&self, side: Side) {
        let mut state = self.state();
        state.end(side);
        let incoming = state.incoming(side);
        incoming.reader_closed = true;
        incoming.bytes.clear();
        self.notify(&mut state);
    }

    fn end(&self, side: Side) {
        let mut state = self.state();
        state.end(side);
        self.notify(&mut state);
    }

    /// Reads what is available; `None` if the caller must wait.
    fn read(&self, side: Side, buf: &mut [u8], may_stall: bool) -> Option<usize> {
        let mut state = self.state();
        if state.is_stalled(side) {
            return None;
        }
        let incoming = state.incoming(side);
        if buf.is_empty() || (incoming.bytes.is_empty() && incoming.ended) {
            return Some(0);
        }
        if incoming.bytes.is_empty() || (may_stall && incoming.reads.stalls()) {
            return None;
        }
        let max = incoming.reads.next();
        let count = incoming.bytes.len().min(buf.len()).min(max);
        take(&mut incoming.bytes, &mut buf[..count]);
        self.notify(&mut state);
        Some(count)
    }

    fn write(&self, side: Side, buf: &[u8], may_stall: bool) -> Option<io::Result<usize>> {
        let mut state = self.state();
        let outgoing = state.outgoing(side);
        if outgoing.reader_closed {
            return Some(Ok(buf.len())); // As with a socket whose peer has closed.
        }
        if outgoing.ended {
            // Cut off by the script, or ended by this side.
            return Some(match outgoing.cut {
                Some(_) => Ok(buf.len()),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            });
        }
        let room = outgoing.writes.capacity() - outgoing.bytes.len();
        if room == 0 || (may_stall && outgoing.writes.stalls()) {
            return None;
        }
        let max = outgoing.writes.next();
        let left = outgoing.cut.map_or(u64::MAX, |cut| cut - outgoing.written);
        let count = room.min(buf.len()).min(max);
        let count = usize::try_from(left).map_or(count, |left| count.min(left));
        outgoing.bytes.extend(&buf[..count]);
        outgoing.written += u64::try_from(count).unwrap();
        outgoing.ended |= outgoing.cut == Some(outgoing.written);
        self.notify(&mut state);
        Some(Ok(count))
    }
}

impl PipeEnd {
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<usize> {
        let Handle { memory, side } = &*self.0;
        match memory.read(*side, buf, true) {
            Some(count) => Poll::Ready(count),
            None => {
                let mut state = memory.state();
                let stalled = state.is_stalled(*side);
                let incoming = state.incoming(*side);
                incoming.reader = Some(cx.waker().clone());
                if !stalled && (!incoming.bytes.is_empty() || incoming.ended) {
                    cx.waker().wake_by_ref(); // The shape stalled it, or the state has just changed.
                }
                Poll::Pending
            }
        }
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Handle { memory, side } = &*self.0;
        match memory.write(*side, buf, true) {
            Some(result) => Poll::Ready(result),
            None => {
                let mut state = memory.state();
                let outgoing = state.outgoing(*side);
                outgoing.writer = Some(cx.waker().clone());
                let room = outgoing.bytes.len() < outgoing.writes.capacity();
                if room || outgoing.ended || outgoing.reader_closed {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    /// Blocks.
    pub(crate) fn read_now(&self, buf: &mut [u8]) -> usize {
        let Handle { memory, side } = &*self.0;
        if *side == Side::Client && memory.count_operation() {
            return 0;
        }
        loop {
            // `read` releases the lock. A change before the wait is not missed: the condition is checked again
            // under the lock that the wait releases.
            if let Some(count) = memory.read(*side, buf, false) {
                return count;
            }
            let mut state = memory.state();
            let stalled = state.is_stalled(*side);
            let incoming = state.incoming(*side);
            if stalled || (incoming.bytes.is_empty() && !incoming.ended) {
                drop(memory.changed.wait(state));
            }
        }
    }

    /// Blocks.
    pub(crate) fn write_now(&self, buf: &[u8]) -> io::Result<usize> {
        let Handle { memory, side } = &*self.0;
        if *side == Side::Client && memory.count_operation() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        loop {
            if let Some(result) = memory.write(*side, buf, false) {
                return result;
            }
            let mut state = memory.state();
            let outgoing = state.outgoing(*side);
            let room = outgoing.bytes.len() < outgoing.writes.capacity();
            if !room && !outgoing.ended && !outgoing.reader_closed {
                drop(memory.changed.wait(state));
            }
        }
    }

    /// Half-closes the connection.
    pub(crate) fn finish(&self) {
        self.0.memory.end(self.0.side);
    }

    pub(crate) fn close(&self) {
        self.0.memory.close(self.0.side);
    }
}
