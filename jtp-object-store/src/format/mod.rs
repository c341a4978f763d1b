//! The bytes of the objects below `.jtp/`, as docs/object-store.md describes them.
//!
//! Decoding reads each byte once, allocates no more than the input can fill, and never panics.

mod block;
mod head;
mod lease;
mod log;
mod object;
mod part;
mod reader;

use jtp_core::ImageId;

pub(crate) use block::{Block, BlockWriter};
pub(crate) use head::{Head, PartRef};
pub(crate) use lease::LeaseState;
pub(crate) use log::{Change, LogRecord, MAX_CHANGES};
pub(crate) use object::MAX_KEY_LEN;
pub use object::{Contents, ETag, Identity, Object, Variant};
pub(crate) use part::{PartWriter, decode_part};
use reader::Reader;

const MAGIC: &[u8] = b"JTPO";
const VERSION: u8 = 1;
/// The version of logs and parts in which a record has a variant.
const VARIANT_VERSION: u8 = 2;
/// The bytes before the body.
const HEADER_LEN: usize = 24;
const CHECKSUM_LEN: usize = 8;

/// What an object below `.jtp/` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Head = 1,
    Part = 2,
    Log = 3,
    Lease = 4,
}

impl Kind {
    /// The most bytes of such an object.
    pub(crate) const fn max_len(self) -> u64 {
        match self {
            Kind::Head | Kind::Log => 4 << 20,
            Kind::Part => 16 << 20,
            Kind::Lease => 1 << 10,
        }
    }

    /// The latest version.
    const fn version(self) -> u8 {
        match self {
            Kind::Log | Kind::Part => VARIANT_VERSION,
            Kind::Head | Kind::Lease => VERSION,
        }
    }
}

/// Why the bytes of an object below `.jtp/` are not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// It is shorter than its fields, or longer.
    #[error("it has another length than its fields")]
    Length,
    /// It does not begin with `JTPO` and the expected kind.
    #[error("it is not an object of this kind of a catalog")]
    Magic,
    /// A later version of this crate wrote it.
    #[error("it has format {0}, which is newer than this program: update the program")]
    Version(u8),
    /// The checksum does not match: it is damaged.
    #[error("its checksum is wrong")]
    Checksum,
    /// Its sequence number is not that of its name.
    #[error("its number is not that of its name")]
    Sequence,
    /// A field has a value that it cannot have.
    #[error("the field {0} has an invalid value")]
    Field(&'static str),
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
}

impl Stamp {
    /// The stamp of the next change.
    pub(crate) fn next(self) -> Stamp {
        Stamp {
            epoch: self.epoch,
            seq: self.seq.saturating_add(1),
        }
    }
}

/// Begins a frame; [`seal`] ends it.
fn begin(kind: Kind, version: u8, stamp: Stamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(MAGIC);
    out.push(kind as u8);
    out.push(version);
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&stamp.epoch.to_le_bytes());
    out.extend_from_slice(&stamp.seq.to_le_bytes());
    out
}

/// Appends the checksum.
fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let checksum = ImageId::of(&out).0;
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// The header and the body of a frame whose checksum is right.
fn open(kind: Kind, bytes: &[u8]) -> Result<(Stamp, Reader<'_>), FormatError> {
    let end = bytes
        .len()
        .checked_sub(CHECKSUM_LEN)
        .filter(|end| *end >= HEADER_LEN)
        .ok_or(FormatError::Length)?;
    let (frame, checksum) = bytes.split_at(end);
    let version = frame.get(MAGIC.len() + 1).copied().unwrap_or(0);
    let mut reader = Reader::new(frame, version);
    if reader.bytes(MAGIC.len())? != MAGIC || reader.byte()? != kind as u8 {
        return Err(FormatError::Magic);
    }
    if !(VERSION..=kind.version()).contains(&reader.byte()?) {
        return Err(FormatError::Version(version));
    }
    if ImageId::of(frame).0.to_le_bytes() != checksum {
        return Err(FormatError::Checksum);
    }
    if reader.bytes(2)? != [0; 2] {
        return Err(FormatError::Field("reserved"));
    }
    let epoch = reader.u64()?;
    let seq = reader.u64()?;
    Ok((Stamp { epoch, seq }, reader))
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    put_varint(u64::try_from(len).unwrap_or(u64::MAX), out);
}

/// Appends a key without the leading bytes that it shares with the key before it, which it replaces.
fn put_key(key: &str, before: &mut String, out: &mut Vec<u8>) {
    let pairs = key.bytes().zip(before.bytes());
    let shared = pairs.take_while(|(one, other)| one == other).count();
    let rest = key.as_bytes().get(shared..).unwrap_or_default();
    put_len(shared, out);
    put_len(rest.len(), out);
    out.extend_from_slice(rest);
    key.clone_into(before);
}

/// Decodes bytes as each kind of object and checks that what is accepted is encoded again to an equal object: for the
/// fuzz target.
#[doc(hidden)]
pub fn check_decoding(bytes: &[u8]) {
    if let Ok((stamp, head)) = Head::decode(bytes) {
        let again = Head::decode(&head.encode(stamp));
        assert_eq!(again, Ok((stamp, head)));
    }
    if let Ok((stamp, record)) = LogRecord::decode(bytes) {
        let again = LogRecord::decode(&record.encode(stamp));
        assert_eq!(again, Ok((stamp, record)));
    }
    if let Ok((stamp, lease)) = LeaseState::decode(bytes) {
        assert_eq!(LeaseState::decode(&lease.encode(stamp)), Ok((stamp, lease)));
    }
    let mut objects = Vec::new();
    let mut collect = |key: &str, object| objects.push((key.to_owned(), object));
    if let Ok(stamp) = decode_part(bytes, None, &mut collect) {
        let mut writer = PartWriter::new(stamp);
        for (key, object) in &objects {
            writer.push(key, object);
        }
        let mut again = Vec::new();
        let mut collect = |key: &str, object| again.push((key.to_owned(), object));
        assert_eq!(decode_part(&writer.finish(), None, &mut collect), Ok(stamp));
        assert_eq!(again, objects);
    }
}

/// `bytes` with the right header and checksum: for the fuzz target, which would not find them.
#[doc(hidden)]
#[must_use]
pub fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let kind = match kind % 4 {
        0 => Kind::Head,
        1 => Kind::Part,
        2 => Kind::Log,
        _ => Kind::Lease,
    };
    let mut out = begin(kind, kind.version(), Stamp { epoch: 1, seq: 1 });
    out.extend_from_slice(body);
    seal(out)
}

#[cfg(test)]
mod tests;
