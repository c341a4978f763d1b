//! Reads a log block by block, so that its records are never in memory all at once.

use std::io::{self, Read};

use jtp_core::ImageId;

use super::{BLOCK, BLOCK_HEAD_LEN, MAGIC, MAX_LEN, RECORD_LEN, Record, decode};

/// A log that is being read.
pub(crate) struct LogReader<R> {
    from: io::Take<R>,
    buffer: Vec<u8>,
    records: Vec<Record>,
}

impl<R: Read> LogReader<R> {
    /// Begins to read a log. `None` if it is none.
    pub(crate) fn new(from: R) -> Option<LogReader<R>> {
        let mut reader = LogReader::at(from, 0);
        let mut magic = [0; MAGIC.len()];
        reader.from.read_exact(&mut magic).ok()?;
        (magic == *MAGIC).then_some(reader)
    }

    /// Goes on at this offset, where a block begins.
    pub(crate) fn at(from: R, offset: u64) -> LogReader<R> {
        LogReader {
            from: from.take((MAX_LEN + 1).saturating_sub(offset)),
            buffer: Vec::new(),
            records: Vec::new(),
        }
    }

    /// The offset in the log.
    pub(crate) fn position(&self) -> u64 {
        MAX_LEN + 1 - self.from.limit()
    }

    /// The records of the next block, at most [`BLOCK`]; none at the end. `None` if the block is damaged or incomplete.
    pub(crate) fn next(&mut self) -> Option<&[Record]> {
        self.records.clear();
        let mut head = [0; BLOCK_HEAD_LEN];
        if !read_or_end(&mut self.from, &mut head).ok()? {
            return Some(&[]);
        }
        let (count, checksum) = head.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
        if count == 0 || count > BLOCK {
            return None;
        }
        self.buffer.resize(count * RECORD_LEN, 0);
        self.from.read_exact(&mut self.buffer).ok()?;
        if ImageId::of(&self.buffer).to_be_bytes() != *checksum {
            return None;
        }
        for record in self.buffer.chunks_exact(RECORD_LEN) {
            self.records.push(decode(record)?);
        }
        Some(&self.records)
    }
}

/// Fills the buffer; `false` at the end of the input.
fn read_or_end(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
