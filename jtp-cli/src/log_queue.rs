//! Log lines on their way to stderr. Nobody waits for a reader of stderr: lines that find no room are dropped and
//! counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most bytes that wait. As many again may be with the thread that writes.
const MAX_BYTES: usize = 1024 * 1024;

/// The longest line in bytes; the rest of a longer one is cut off.
const MAX_LINE: usize = 8 * 1024;

/// What ends a line that was cut.
const CUT: &str = " … (cut)";

/// Writes lines on a thread of its own. A handle: clones are the same queue.
#[derive(Debug, Clone)]
pub struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that were dropped since the last one was written.
    dropped: u64,
    is_writing: bool,
}

impl LogQueue {
    /// Starts the thread, which writes to `out`. `dropped` makes the line that reports the number of dropped lines.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(
        mut out: impl Write + Send + 'static,
        dropped: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<LogQueue> {
        let queue = LogQueue(Arc::default());
        let shared = Arc::clone(&queue.0);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_lines(&mut out, &dropped))?;
        Ok(queue)
    }

    /// Adds a line, which ends with a line feed, or drops it if there is no room.
    pub fn push(&self, line: &[u8]) {
        let mut waiting = self.0.lock();
        let line = cut(line);
        if waiting.bytes + line.len() > MAX_BYTES {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        drop(waiting);
        self.0.changed.notify_all();
    }

    /// Waits until all lines are written, at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        let unwritten = |waiting: &mut Waiting| {
            waiting.is_writing || !waiting.lines.is_empty() || waiting.dropped > 0
        };
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), limit, unwritten);
        drop(waited);
    }
}

fn cut(line: &[u8]) -> Vec<u8> {
    if line.len() <= MAX_LINE {
        return line.to_vec();
    }
    let text = String::from_utf8_lossy(&line[..MAX_LINE]);
    // A character that was cut in two became a replacement character.
    let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    format!("{text}{CUT}\n").into_bytes()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lines(&self, out: &mut impl Write, dropped_line: &impl Fn(u64) -> String) {
        loop {
            let is_idle = |waiting: &mut Waiting| waiting.lines.is_empty() && waiting.dropped == 0;
            let mut waiting = self
                .changed
                .wait_while(self.lock(), is_idle)
                .unwrap_or_else(PoisonError::into_inner);
            let lines = std::mem::take(&mut waiting.lines);
            let dropped = std::mem::take(&mut waiting.dropped);
            waiting.bytes = 0;
            waiting.is_writing = true;
            drop(waiting);
            // There is nowhere to report errors.
            for line in lines {
                let _ = out.write_all(&line);
            }
            // They were dropped because the lines before them waited.
            if dropped > 0 {
                // In one write, as the other lines.
                let _ = out.write_all((dropped_line(dropped) + "\n").as_bytes());
            }
            let _ = out.flush();
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A pipe whose reader reads only when the test does.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue() -> (LogQueue, Receiver<Vec<u8>>) {
        let (sender, receiver) = sync_channel(0);
        let dropped = |count| format!("{count} lines were dropped");
        (LogQueue::start(Pipe(sender), dropped).unwrap(), receiver)
    }

    #[test]
    fn lines_without_a_reader_are_dropped_and_counted() {
        let (queue, reader) = queue();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let pushed = 10_000;
        for _ in 0..pushed {
            queue.push(&line);
        }
        queue.flush(Duration::ZERO);
        let (mut lines, mut dropped) = (0, 0);
        while lines + dropped < pushed {
            let text = String::from_utf8(reader.recv().unwrap()).unwrap();
            match text.strip_suffix(" lines were dropped\n") {
                Some(count) => dropped += count.parse::<u64>().unwrap(),
                None => {
                    assert_eq!(text.len(), line.len(), "{text}");
                    lines += 1;
                }
            }
        }
        assert!(dropped >= pushed - 2 * 1024, "{dropped} dropped");
        assert_eq!(lines + dropped, pushed);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let (queue, reader) = queue();
        queue.push(format!("a{}\n", "é".repeat(100_000)).as_bytes());
        let written = String::from_utf8(reader.recv().unwrap()).unwrap();
        assert!(
            written.ends_with(&format!("é{CUT}\n")),
            "{}",
            &written[8000..]
        );
        assert!(written.len() <= MAX_LINE + CUT.len() + 1);
    }

    #[test]
    fn flush_waits_for_the_writer() {
        let (queue, reader) = queue();
        queue.push(b"one\n");
        queue.push(b"two\n");
        let read = thread::spawn(move || [reader.recv().unwrap(), reader.recv().unwrap()].concat());
        queue.flush(Duration::from_secs(30));
        assert!(queue.0.lock().lines.is_empty() && !queue.0.lock().is_writing);
        assert_eq!(read.join().unwrap(), b"one\ntwo\n");
    }
}
