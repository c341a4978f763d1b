//! A bounded queue of log lines and the thread that writes them: no other thread waits for whoever reads the log.

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The most bytes of a line, with its newline. A pipe takes as many at once (`PIPE_BUF`), so that lines of several
/// processes do not mix.
pub(super) const MAX_LINE: usize = 4096;

/// The most bytes that wait to be written. Those that are being written are as many again.
const MAX_QUEUED: usize = 1 << 20;

/// The memory that is kept for later lines.
const KEPT: usize = 64 << 10;

/// A handle to the queue.
#[derive(Debug, Clone)]
pub(super) struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    lines: Vec<u8>,
    /// The number of lines that were dropped after those in `lines`.
    dropped: u64,
    is_writing: bool,
    /// What writes lines if there is no thread.
    direct: Option<fn(&[u8])>,
}

impl LogQueue {
    /// Creates a queue, whose lines wait for [`LogQueue::start`].
    pub(super) fn new() -> LogQueue {
        LogQueue(Arc::default())
    }

    /// Starts the thread. It calls `write` with one line at a time, and `dropped` for the line that says how many were
    /// dropped.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(super) fn start(
        &self,
        write: impl FnMut(&[u8]) + Send + 'static,
        dropped: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.0);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_lines(write, dropped))
            .map(drop)
    }

    /// Writes the lines that wait, and all further ones at once: there is no thread for them.
    pub(super) fn write_without_thread(&self, write: fn(&[u8])) {
        let mut state = self.0.lock();
        state.direct = Some(write);
        write(&std::mem::take(&mut state.lines));
    }

    /// Queues a line that ends with a newline. It is dropped and counted if the queue is full.
    pub(super) fn push(&self, line: &[u8]) {
        self.push_within(line, MAX_QUEUED);
    }

    /// Queues a line for which a full queue has room left: one that says why the program ends.
    pub(super) fn push_last(&self, line: &[u8]) {
        self.push_within(line, MAX_QUEUED + MAX_LINE);
    }

    fn push_within(&self, line: &[u8], limit: usize) {
        let line = cut(line);
        let mut state = self.0.lock();
        if let Some(write) = state.direct {
            return write(&line);
        }
        if state.lines.len() + line.len() > limit {
            state.dropped = state.dropped.saturating_add(1);
            return;
        }
        if state.dropped > 0 && limit == MAX_QUEUED {
            // Lines stay in order, and the count stays behind those that it follows.
            state.dropped = state.dropped.saturating_add(1);
            return;
        }
        state.lines.extend_from_slice(&line);
        drop(state);
        self.0.filled.notify_one();
    }

    /// Waits until everything is written, at most `patience`. Returns whether it is.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.0.lock();
        while !state.is_idle() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.written.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0 && !self.is_writing
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lines(&self, mut write: impl FnMut(&[u8]), dropped_line: impl Fn(u64) -> Vec<u8>) {
        let mut lines = Vec::new();
        loop {
            let dropped = self.take(&mut lines);
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                write(line);
            }
            lines.clear();
            lines.shrink_to(KEPT);
            if dropped > 0 {
                write(&dropped_line(dropped));
            }
        }
    }

    /// Waits for lines and takes them. Returns the number of lines that were dropped after them.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        state.is_writing = false;
        self.written.notify_all();
        while state.is_idle() {
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        std::mem::swap(&mut state.lines, lines);
        std::mem::take(&mut state.dropped)
    }
}

/// The line, cut to [`MAX_LINE`] bytes.
pub(super) fn cut(line: &[u8]) -> Cow<'_, [u8]> {
    if line.len() <= MAX_LINE {
        return Cow::Borrowed(line);
    }
    // Text is escaped before it comes here: the escape character is that of colours, which end here.
    let reset = if line.contains(&0x1b) { "\x1b[0m" } else { "" };
    let longest = format!("… ({} more bytes){reset}\n", line.len());
    let mut at = MAX_LINE - longest.len();
    // Not within a character.
    while line.get(at).is_some_and(|byte| byte & 0xc0 == 0x80) {
        at -= 1;
    }
    let (kept, rest) = line.split_at(at);
    let more = format!("… ({} more bytes){reset}\n", rest.len() - 1);
    Cow::Owned([kept, more.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, Receiver, SyncSender};

    /// A queue whose writer waits for a permit before each line, and the lines that it wrote.
    fn gated() -> (LogQueue, SyncSender<()>, Receiver<String>) {
        let (permit, permits) = mpsc::sync_channel(0);
        let (sender, written) = mpsc::channel();
        let write = move |line: &[u8]| {
            let _ = permits.recv();
            let _ = sender.send(String::from_utf8(line.to_vec()).unwrap());
        };
        let queue = LogQueue::new();
        let started = queue.start(write, |count| format!("dropped {count}\n").into_bytes());
        started.unwrap();
        (queue, permit, written)
    }

    #[test]
    fn lines_over_the_limit_are_dropped_and_counted_where_they_are_missing() {
        let (queue, permit, written) = gated();
        queue.push(b"first\n");
        permit.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), "first\n");
        // The writer may have taken some of these and waits with them: a second round fills the queue in any case.
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let fitting = MAX_QUEUED / line.len();
        for _ in 0..2 * fitting + 7 {
            queue.push(&line);
        }
        queue.push_last(b"error: last\n");
        let mut lines = 0;
        let dropped = loop {
            permit.send(()).unwrap();
            let text = written.recv().unwrap();
            match text.strip_prefix("dropped ") {
                Some(count) => break count.trim().parse::<usize>().unwrap(),
                None if text == "error: last\n" => {}
                None => lines += 1,
            }
        };
        assert!((fitting..=2 * fitting).contains(&lines), "{lines}");
        assert_eq!(lines + dropped, 2 * fitting + 7);
        queue.push(b"after\n");
        permit.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), "after\n");
    }

    #[test]
    fn a_queued_line_is_cut() {
        let (queue, permit, written) = gated();
        queue.push(&[&[b'x'; 2 * MAX_LINE][..], b"\n"].concat());
        permit.send(()).unwrap();
        let line = written.recv().unwrap();
        assert!(line.len() <= MAX_LINE && line.ends_with('\n'), "{line}");
    }

    #[test]
    fn flush_waits_until_all_is_written_but_no_longer_than_its_limit() {
        let (queue, permit, written) = gated();
        assert!(queue.flush(Duration::from_secs(60)));
        queue.push(b"a\n");
        assert!(!queue.flush(Duration::from_millis(1)));
        permit.send(()).unwrap();
        assert!(queue.flush(Duration::from_secs(60)));
        assert_eq!(written.recv().unwrap(), "a\n");
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_keeps_its_newline() {
        assert_eq!(&*cut(b"short\n"), b"short\n");
        for shift in ["", "a", "aa", "aaa"] {
            for colour in ["", "\x1b[2m"] {
                let line = format!("{shift}{colour}{}\n", "👩".repeat(3_000));
                let short = String::from_utf8(cut(line.as_bytes()).into_owned()).unwrap();
                assert!(short.len() <= MAX_LINE && short.ends_with('\n'), "{short}");
                let (kept, more) = short.split_once("… (").unwrap();
                let more: usize = more.split_once(' ').unwrap().0.parse().unwrap();
                assert_eq!(kept.len() + more + 1, line.len());
                assert_eq!(short.contains("\x1b[0m"), !colour.is_empty());
            }
        }
    }
}
