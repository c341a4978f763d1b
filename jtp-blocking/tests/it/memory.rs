//! A blocking stream in memory.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex};

use jtp_blocking::Close;

/// Both ends of a stream that buffers `capacity` bytes in each direction.
pub(crate) fn duplex(capacity: usize) -> (StreamEnd, StreamEnd) {
    let pipe = || Arc::new(Pipe::new(capacity));
    let (a, b) = (pipe(), pipe());
    let client_end = StreamEnd {
        from: Arc::clone(&a),
        to: Arc::clone(&b),
    };
    (client_end, StreamEnd { from: b, to: a })
}

/// One end of the stream. Clones are the same end.
#[derive(Clone)]
pub(crate) struct StreamEnd {
    from: Arc<Pipe>,
    to: Arc<Pipe>,
}

impl StreamEnd {
    /// Waits until the other end has read everything that was written.
    pub(crate) fn wait_until_read(&self) {
        let state = self.to.state.lock().unwrap();
        let wait = |state: &mut State| !state.bytes.is_empty();
        drop(self.to.moved.wait_while(state, wait).unwrap());
    }
}

struct Pipe {
    capacity: usize,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    closed: bool,
}

impl Pipe {
    fn new(capacity: usize) -> Pipe {
        Pipe {
            capacity,
            state: Mutex::default(),
            moved: Condvar::new(),
        }
    }

    fn close(&self) {
        self.state.lock().unwrap().closed = true;
        self.moved.notify_all();
    }
}

impl Read for StreamEnd {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.from.state.lock().unwrap();
        let wait = |state: &mut State| state.bytes.is_empty() && !state.closed;
        let mut state = self.from.moved.wait_while(state, wait).unwrap();
        let count = state.bytes.read(buf)?;
        self.from.moved.notify_all();
        Ok(count)
    }
}

impl Write for StreamEnd {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let state = self.to.state.lock().unwrap();
        let wait = |state: &mut State| state.bytes.len() >= self.to.capacity && !state.closed;
        let mut state = self.to.moved.wait_while(state, wait).unwrap();
        if state.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = buf.len().min(self.to.capacity - state.bytes.len());
        state.bytes.extend(&buf[..count]);
        self.to.moved.notify_all();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Close for StreamEnd {
    fn finish(&mut self) -> io::Result<()> {
        self.to.close();
        Ok(())
    }

    fn close(&mut self) {
        self.to.close();
        self.from.close();
    }
}
