//! The core of JTP as a WebAssembly module: the IDs of images, and a response taken apart, each image verified.
//!
//! The module has no imports and keeps one stream. JavaScript writes a piece of the response to the memory that [`input`]
//! names, calls [`receive`], and reads the lines at [`report`]. [`check.mjs`](check.mjs) is such a program.

use std::cell::RefCell;
use std::fmt::Write;

use jtp_core::wire::{Decoded, Dissector, Frame, WireError};
use jtp_core::{BodyReceiver, DEFAULT_MAX_WINDOW, ImageId};

/// The largest image that is accepted, decoded: 64 MiB.
const MAX_IMAGE: u64 = 64 << 20;

struct Stream {
    /// What JavaScript writes.
    input: Vec<u8>,
    /// Received bytes that are not an entire frame yet.
    pending: Vec<u8>,
    frames: Dissector,
    body: BodyReceiver,
    report: String,
}

thread_local! {
    static STREAM: RefCell<Stream> = RefCell::new(Stream {
        input: Vec::new(),
        pending: Vec::new(),
        frames: Dissector::server_to_client(),
        body: BodyReceiver::new(MAX_IMAGE, DEFAULT_MAX_WINDOW),
        report: String::new(),
    });
}

/// The address of `len` bytes to write. Valid until the next call of any function.
#[unsafe(no_mangle)]
pub extern "C" fn input(len: usize) -> *mut u8 {
    STREAM.with_borrow_mut(|stream| {
        stream.input.resize(len, 0);
        stream.input.as_mut_ptr()
    })
}

/// The ID of the written bytes: a `BigInt`, to be read with `BigInt.asUintN(64, id)`.
#[unsafe(no_mangle)]
pub extern "C" fn id() -> u64 {
    STREAM.with_borrow(|stream| ImageId::of(&stream.input).0)
}

/// Takes the written bytes as the next piece of a response. Returns 0 for bytes that are not JTP, else 1.
#[unsafe(no_mangle)]
pub extern "C" fn receive() -> u32 {
    STREAM.with_borrow_mut(|stream| u32::from(stream.receive().is_ok()))
}

/// The address of the lines about the last piece, in UTF-8. Valid until the next call of any function but
/// [`report_len`].
#[unsafe(no_mangle)]
pub extern "C" fn report() -> *const u8 {
    STREAM.with_borrow(|stream| stream.report.as_ptr())
}

/// The number of bytes at [`report`].
#[unsafe(no_mangle)]
pub extern "C" fn report_len() -> usize {
    STREAM.with_borrow(|stream| stream.report.len())
}

impl Stream {
    fn receive(&mut self) -> Result<(), WireError> {
        let Stream {
            input,
            pending,
            frames,
            body,
            report,
        } = self;
        report.clear();
        pending.append(input);
        let mut at = 0;
        while let Decoded::Complete { value, used } =
            frames.decode(pending.get(at..).unwrap_or_default())?
        {
            at += used;
            let mut line = |text: String| {
                // Writing to a string does not fail.
                let _ = writeln!(report, "{text}");
            };
            match value {
                Frame::Response { header, count } => line(format!("{header:?} {count}")),
                Frame::Entry(entry) => line(format!("entry {} {}", entry.id, entry.name)),
                Frame::Packet(image) => {
                    body.begin(image);
                    if image.length == 0 {
                        line(verdict(body));
                    }
                }
                Frame::Body(mut bytes) => {
                    // Decoded bytes come in pieces; a page would append them to a Blob.
                    while !bytes.is_empty() {
                        let used = body.receive(bytes).used;
                        bytes = bytes.get(used..).unwrap_or_default();
                    }
                    if frames.body_left() == 0 {
                        line(verdict(body));
                    }
                }
                other => line(format!("{other:?}")),
            }
        }
        pending.drain(..at);
        Ok(())
    }
}

fn verdict(body: &BodyReceiver) -> String {
    match body.verdict() {
        Some(Ok(verified)) => format!("verified {}", verified.id()),
        Some(Err(fault)) => format!("refused: {fault}"),
        None => "incomplete".to_owned(),
    }
}
