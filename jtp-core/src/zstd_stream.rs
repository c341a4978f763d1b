//! Decoding Zstd frames so that the result does not depend on how the input is split. // W8
//!
//! ```text
//!          ┌─────────┐
//!          │  Skip   │
//!          └▲───────┬┘
//!           │       ▼
//!  start ► Header ► BlockHeader ► Raw or Encoded ─ last block ─► Checksum ┐
//!           ▲           ▲               │                                 │
//!           │           └───────────────┘                                 │
//!           └─────────────────────────────────────────────────────────────┘
//! ```
//!
//! Frame and block headers are decoded here. The library gets one header or one block at a time:
//!
//! - It never sees a complete frame in one call, so it never uses its single-pass path.
//! - A call that fails does not lose the output of earlier blocks.
//! - A raw block, which the library would pass on in pieces of any size, is handed over in pieces of a fixed size.
//!   Broken data can make visible where the library's ring buffer wraps; so that is fixed as well.
//! - A block decodes to at most 128 KiB, so the output buffer always has room for the output of one call.

use alloc::vec;
use alloc::vec::Vec;

use zstd::zstd_safe::{self, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use crate::fault::ImageFault;
use crate::wire::Decoded;
use crate::zstd_frame::{
    self, BLOCK_HEADER_LEN, BlockKind, FrameHeader, MAX_BLOCK, MAX_HEADER_LEN, Reason,
};

/// Size in bytes of the pieces in which the library gets raw blocks.
const RAW_PIECE: usize = {
    let size = 4096;
    assert!(MAX_HEADER_LEN <= size);
    assert!(BLOCK_HEADER_LEN <= size);
    size
};

/// What the next bytes are; see the diagram.
enum Position {
    /// A frame header, or the end of the data.
    Header,
    /// A skippable frame.
    Skip { left: u32 },
    /// A block header.
    BlockHeader,
    /// A raw block.
    Raw { left: usize },
    /// A compressed or run-length block.
    Encoded { left: usize },
    /// The checksum after the last block.
    Checksum { left: usize },
}

/// The decoder and its two buffers, which are reused for later images.
pub(crate) struct ZstdStream {
    library: DCtx<'static>,
    /// Its first `filled` bytes are the output of the last [`ZstdStream::advance`].
    out: Vec<u8>,
    filled: usize,
    /// An incomplete header, or an incomplete piece of a raw block.
    held: Vec<u8>,
    position: Position,
    max_window: u64,
    /// Whether there was a frame of data.
    any: bool,
    // About the current frame:
    /// Whether its last block is reached.
    last: bool,
    /// Whether it ends with a checksum.
    checksum: bool,
    /// Its declared content size.
    content: Option<u64>,
    /// Number of bytes decoded so far.
    decoded: u64,
    /// Whether the library reports its end.
    done: bool,
}

impl ZstdStream {
    /// `None` if the library is out of memory.
    pub(crate) fn new(max_window: u32) -> Option<ZstdStream> {
        let mut library = DCtx::try_create()?;
        // `header` makes the exact check; this bounds the library as well.
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
            position: Position::Header,
            max_window: u64::from(max_window),
            any: false,
            last: false,
            checksum: false,
            content: None,
            decoded: 0,
            done: false,
        })
    }

    /// Prepares for the next image.
    pub(crate) fn reset(&mut self) -> Result<(), Reason> {
        self.filled = 0;
        self.held.clear();
        self.position = Position::Header;
        self.any = false;
        self.library
            .reset(ResetDirective::SessionOnly)
            .map(|_| ())
            .map_err(zstd_safe::get_error_name)
    }

    /// The output of the last [`ZstdStream::advance`].
    pub(crate) fn output(&self) -> &[u8] {
        self.out.get(..self.filled).unwrap_or_default()
    }

    /// Checks that the data may end here.
    pub(crate) fn finish(&self) -> Result<(), Reason> {
        match self.position {
            Position::Header if !self.held.is_empty() => Err("the last frame is incomplete"),
            Position::Header if !self.any => Err("no frame of data"),
            Position::Header => Ok(()),
            _ => Err("the last frame is incomplete"),
        }
    }

    /// Decodes `input` until the output buffer is full or the input ends. Returns the number of input bytes used.
    ///
    /// At most `room` bytes are in [`ZstdStream::output`], which is valid also if there is a fault. Without output
    /// and fault all input is used. `limit` is the limit of the whole image, for the fault.
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

    /// One step of [`ZstdStream::advance`]. Returns `false` if no other step can follow now.
    fn step(&mut self, input: &mut &[u8], room: u64, limit: u64) -> Result<bool, ImageFault> {
        if input.is_empty() {
            return Ok(false);
        }
        match self.position {
            Position::Header => self.header(input, room, limit)?,
            Position::Skip { left } => {
                let size = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                take(input, size);
                let left = left.saturating_sub(u32::try_from(size).unwrap_or(left));
                self.position = if left == 0 {
                    Position::Header
                } else {
                    Position::Skip { left }
                };
            }
            Position::BlockHeader => {
                if self.hold(input, BLOCK_HEADER_LEN) {
                    self.block_header(room, limit)?;
                }
            }
            Position::Raw { left } => {
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
                self.position = Position::Raw { left: left - size };
                self.end_of_block(left - size)?;
            }
            Position::Encoded { left } => {
                if self.filled > 0 {
                    // A block may need the whole buffer.
                    return Ok(false);
                }
                let piece = take(input, left);
                let left = left - piece.len();
                self.feed(piece, room, limit)?;
                self.position = Position::Encoded { left };
                self.end_of_block(left)?;
            }
            Position::Checksum { left } => {
                let piece = take(input, left);
                let left = left - piece.len();
                self.feed(piece, room, limit)?;
                self.position = Position::Checksum { left };
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
                    self.position = match length {
                        0 => Position::Header,
                        left => Position::Skip { left },
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
                    self.position = Position::BlockHeader;
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
        self.position = match block.kind {
            BlockKind::Raw => Position::Raw { left },
            BlockKind::Rle | BlockKind::Compressed => Position::Encoded { left },
        };
        self.end_of_block(left)
    }

    /// Continues after a block if nothing of it is left.
    fn end_of_block(&mut self, left: usize) -> Result<(), ImageFault> {
        if left > 0 {
            return Ok(());
        }
        if !self.last {
            self.position = Position::BlockHeader;
        } else if self.checksum {
            self.position = Position::Checksum { left: 4 };
        } else {
            self.end_of_frame()?;
        }
        Ok(())
    }

    fn end_of_frame(&mut self) -> Result<(), ImageFault> {
        // The library does not check the length if an empty block ends the frame.
        if self.content.is_some_and(|content| content != self.decoded) {
            return Err(ImageFault::Broken(
                "a frame does not have its declared length",
            ));
        }
        if !self.done {
            return Err(ImageFault::Broken(
                "a frame does not end with its last block",
            ));
        }
        self.position = Position::Header;
        Ok(())
    }

    /// Collects `size` bytes in `held`. Returns whether it has them.
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

    /// Passes bytes of one header or block to the library.
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
                return Err(ImageFault::Broken("the decoder made no progress"));
            }
        }
        if u64::try_from(self.filled).unwrap_or(u64::MAX) > room {
            // No output exceeds the limit. // R4
            self.filled = before;
            return Err(ImageFault::TooLarge { limit });
        }
        self.decoded += u64::try_from(self.filled - before).unwrap_or(0);
        Ok(())
    }

    /// The part of `room` that the output buffer does not use.
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
