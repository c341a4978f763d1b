//! Decoding Zstd frames so that the answer never depends on how the input was cut. // W8
//!
//! ```text
//!            ┌────────── Skip ◄──────────┐
//!            ▼                           │
//!  start ► Header ► BlockHeader ► Raw / Whole ► (last block) Checksum ┐
//!            ▲          ▲            │                                │
//!            │          └────────────┘                                │
//!            └────────────────────────────────────────────────────────┘
//! ```
//!
//! Headers and block headers are read here, and the library is fed one of them, or one block, at a time:
//!
//! - It never sees a whole frame in one call, so it never takes its single-pass path.
//! - A call that fails loses the output of no earlier block.
//! - A raw block, which the library would pass on in whatever pieces it comes, is handed over in pieces of
//!   fixed size. Where its ring buffer wraps (which broken data could find out) is then fixed as well.
//! - A block decodes to at most 128 KiB, so the output buffer always has room for what one call yields.

use alloc::vec;
use alloc::vec::Vec;

use zstd::zstd_safe::{self, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use crate::body::ImageFault;
use crate::wire::Decoded;
use crate::zstd_frame::{
    self, BLOCK_HEADER_LEN, BlockKind, FrameHeader, MAX_BLOCK, MAX_HEADER_LEN, Reason,
};

/// The pieces in which raw blocks go to the library.
const RAW_PIECE: usize = 4096;

const _: () = assert!(MAX_HEADER_LEN <= RAW_PIECE && BLOCK_HEADER_LEN <= RAW_PIECE);

enum At {
    /// Where a frame begins, or the data end.
    Header,
    /// In a skippable frame.
    Skip { left: u32 },
    /// Where a block begins.
    BlockHeader,
    /// In a raw block.
    Raw { left: usize },
    /// In a compressed or run-length block.
    Whole { left: usize },
    /// In the checksum behind the last block.
    Checksum { left: usize },
}

/// The decoder and its two buffers, both reused for later images.
pub(crate) struct ZstdStream {
    library: DCtx<'static>,
    /// What was decoded by the last [`ZstdStream::advance`]: the first `filled` bytes.
    out: Vec<u8>,
    filled: usize,
    /// A header, or a piece of a raw block, that has not wholly come.
    held: Vec<u8>,
    at: At,
    max_window: u64,
    /// Whether a frame of data was seen.
    any: bool,
    // Of the frame under way:
    last: bool,
    checksum: bool,
    content: Option<u64>,
    decoded: u64,
    /// Whether the library said that the frame is done.
    done: bool,
}

impl ZstdStream {
    /// `None` if the library has no memory.
    pub(crate) fn new(max_window: u32) -> Option<ZstdStream> {
        let mut library = DCtx::try_create()?;
        // The exact check is made here; this one bounds the library as well.
        let most = if usize::BITS < 64 { 30 } else { 31 };
        let log = u64::from(max_window)
            .max(1 << 10)
            .next_power_of_two()
            .ilog2();
        library
            .set_parameter(DParameter::WindowLogMax(log.min(most)))
            .ok()?;
        Some(ZstdStream {
            library,
            out: vec![0; MAX_BLOCK],
            filled: 0,
            held: Vec::with_capacity(RAW_PIECE),
            at: At::Header,
            max_window: u64::from(max_window),
            any: false,
            last: false,
            checksum: false,
            content: None,
            decoded: 0,
            done: false,
        })
    }

    /// Makes ready for the next image.
    pub(crate) fn reset(&mut self) -> Result<(), Reason> {
        self.filled = 0;
        self.held.clear();
        self.at = At::Header;
        self.any = false;
        self.library
            .reset(ResetDirective::SessionOnly)
            .map(|_| ())
            .map_err(zstd_safe::get_error_name)
    }

    /// What the last [`ZstdStream::advance`] decoded.
    pub(crate) fn output(&self) -> &[u8] {
        self.out.get(..self.filled).unwrap_or_default()
    }

    /// Whether the data may end here; if not, why.
    pub(crate) fn finish(&self) -> Result<(), Reason> {
        match self.at {
            At::Header if !self.held.is_empty() => Err("the last frame is incomplete"),
            At::Header if !self.any => Err("no frame of data"),
            At::Header => Ok(()),
            _ => Err("the last frame is incomplete"),
        }
    }

    /// Decodes from `input` until the output buffer has no more room or the input ends; says how much input
    /// was used. There is output ([`ZstdStream::output`], at most `room` bytes) also when there is a fault;
    /// without output and fault all input was used. `limit` is the one that `room` is left of.
    pub(crate) fn advance(
        &mut self,
        input: &[u8],
        room: u64,
        limit: u64,
    ) -> (usize, Result<(), ImageFault>) {
        self.filled = 0;
        let mut rest = input;
        let result = loop {
            match self.step(&mut rest, room, limit) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        (input.len() - rest.len(), result)
    }

    /// One step of [`ZstdStream::advance`]; `false` if no other can follow now.
    fn step(&mut self, input: &mut &[u8], room: u64, limit: u64) -> Result<bool, ImageFault> {
        if input.is_empty() {
            return Ok(false);
        }
        match self.at {
            At::Header => self.header(input, room, limit)?,
            At::Skip { left } => {
                let size = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                take(input, size);
                let left = left.saturating_sub(u32::try_from(size).unwrap_or(left));
                self.at = if left == 0 {
                    At::Header
                } else {
                    At::Skip { left }
                };
            }
            At::BlockHeader => {
                if self.hold(input, BLOCK_HEADER_LEN) {
                    self.block_header(room, limit)?;
                }
            }
            At::Raw { left } => {
                let size = left.min(RAW_PIECE);
                if self.out.len() - self.filled < size {
                    return Ok(false);
                }
                if self.held.is_empty() && input.len() >= size {
                    let piece = take(input, size);
                    self.feed(piece, room, limit)?;
                } else if self.hold(input, size) {
                    self.feed_held(room, limit)?;
                } else {
                    return Ok(false);
                }
                self.at = At::Raw { left: left - size };
                self.end_of_block(left - size)?;
            }
            At::Whole { left } => {
                if self.filled > 0 {
                    // Any block may fill the whole buffer.
                    return Ok(false);
                }
                let piece = take(input, left);
                let left = left - piece.len();
                self.feed(piece, room, limit)?;
                self.at = At::Whole { left };
                self.end_of_block(left)?;
            }
            At::Checksum { left } => {
                let piece = take(input, left);
                let left = left - piece.len();
                self.feed(piece, room, limit)?;
                self.at = At::Checksum { left };
                if left == 0 {
                    self.end_of_frame()?;
                }
            }
        }
        Ok(true)
    }

    fn header(&mut self, input: &mut &[u8], room: u64, limit: u64) -> Result<(), ImageFault> {
        loop {
            match zstd_frame::decode_header(&self.held).map_err(ImageFault::Broken)? {
                Decoded::Incomplete { need } => {
                    let piece = take(input, need);
                    if piece.is_empty() {
                        return Ok(());
                    }
                    self.held.extend_from_slice(piece);
                }
                Decoded::Complete {
                    value: FrameHeader::Skippable { length },
                    ..
                } => {
                    self.held.clear();
                    self.at = match length {
                        0 => At::Header,
                        left => At::Skip { left },
                    };
                    return Ok(());
                }
                Decoded::Complete {
                    value:
                        FrameHeader::Data {
                            window,
                            content,
                            dictionary,
                            checksum,
                        },
                    ..
                } => {
                    if dictionary != 0 {
                        return Err(ImageFault::Broken("a dictionary is needed"));
                    }
                    if content.is_some_and(|content| content > self.left_of(room)) {
                        return Err(ImageFault::TooLarge { limit });
                    }
                    if window > self.max_window {
                        return Err(ImageFault::Broken("the window is too large"));
                    }
                    self.any = true;
                    self.content = content;
                    self.checksum = checksum;
                    self.decoded = 0;
                    self.done = false;
                    self.feed_held(room, limit)?;
                    self.at = At::BlockHeader;
                    return Ok(());
                }
            }
        }
    }

    fn block_header(&mut self, room: u64, limit: u64) -> Result<(), ImageFault> {
        let Some(header) = self.held.first_chunk::<BLOCK_HEADER_LEN>() else {
            return Ok(());
        };
        let block = zstd_frame::decode_block(*header).map_err(ImageFault::Broken)?;
        self.feed_held(room, limit)?;
        self.last = block.last;
        let left = usize::try_from(block.wire).unwrap_or(usize::MAX);
        self.at = match block.kind {
            BlockKind::Raw => At::Raw { left },
            BlockKind::Rle | BlockKind::Compressed => At::Whole { left },
        };
        self.end_of_block(left)
    }

    /// Moves on behind a block of which nothing is left.
    fn end_of_block(&mut self, left: usize) -> Result<(), ImageFault> {
        if left > 0 {
            return Ok(());
        }
        if !self.last {
            self.at = At::BlockHeader;
        } else if self.checksum {
            self.at = At::Checksum { left: 4 };
        } else {
            self.end_of_frame()?;
        }
        Ok(())
    }

    fn end_of_frame(&mut self) -> Result<(), ImageFault> {
        // The library does not compare the lengths when an empty block ends the frame.
        if self.content.is_some_and(|content| content != self.decoded) {
            return Err(ImageFault::Broken("a frame has not its declared length"));
        }
        if !self.done {
            return Err(ImageFault::Broken(
                "a frame does not end with its last block",
            ));
        }
        self.at = At::Header;
        Ok(())
    }

    /// Collects `size` bytes; whether they are there.
    fn hold(&mut self, input: &mut &[u8], size: usize) -> bool {
        let piece = take(input, size.saturating_sub(self.held.len()));
        self.held.extend_from_slice(piece);
        self.held.len() >= size
    }

    fn feed_held(&mut self, room: u64, limit: u64) -> Result<(), ImageFault> {
        let mut held = core::mem::take(&mut self.held);
        let result = self.feed(&held, room, limit);
        held.clear();
        self.held = held;
        result
    }

    /// Hands bytes of one header or block to the library.
    fn feed(&mut self, bytes: &[u8], room: u64, limit: u64) -> Result<(), ImageFault> {
        let before = self.filled;
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            let (from_in, from_out) = (input.pos(), self.filled);
            let mut output = OutBuffer::around_pos(self.out.as_mut_slice(), self.filled);
            let hint = self
                .library
                .decompress_stream(&mut output, &mut input)
                .map_err(|code| ImageFault::Broken(zstd_safe::get_error_name(code)))?;
            self.filled = output.pos();
            self.done = hint == 0;
            if input.pos() == from_in && self.filled == from_out {
                return Err(ImageFault::Broken("the data do not go on"));
            }
        }
        if u64::try_from(self.filled).unwrap_or(u64::MAX) > room {
            // Nothing over the limit gets out. // R4
            self.filled = before;
            return Err(ImageFault::TooLarge { limit });
        }
        self.decoded += u64::try_from(self.filled - before).unwrap_or(0);
        Ok(())
    }

    /// What is left of the room behind what is in the output buffer.
    fn left_of(&self, room: u64) -> u64 {
        room.saturating_sub(u64::try_from(self.filled).unwrap_or(u64::MAX))
    }
}

/// Takes at most `size` bytes from the front.
fn take<'a>(input: &mut &'a [u8], size: usize) -> &'a [u8] {
    let (piece, rest) = input
        .split_at_checked(size)
        .unwrap_or((*input, Default::default()));
    *input = rest;
    piece
}
