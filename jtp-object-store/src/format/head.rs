//! The head of a snapshot: which parts it consists of.

use super::{FormatError, Kind, Reader, Stamp, VERSION, begin, open, put_len, put_varint, seal};

/// The most parts of a snapshot.
const MAX_PARTS: usize = 65_536;
const COMPLETE: u8 = 1;

/// One part of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartRef {
    pub(crate) writer: u64,
    pub(crate) number: u64,
    pub(crate) length: u64,
    pub(crate) checksum: u64,
}

/// A head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whether all objects of the bucket were read once.
    pub(crate) complete: bool,
    pub(crate) objects: u64,
    pub(crate) parts: Vec<PartRef>,
}

impl Head {
    pub(crate) fn encode(&self, stamp: Stamp) -> Vec<u8> {
        let mut out = begin(Kind::Head, VERSION, stamp);
        out.push(if self.complete { COMPLETE } else { 0 });
        put_varint(self.objects, &mut out);
        put_len(self.parts.len(), &mut out);
        for part in &self.parts {
            out.extend_from_slice(&part.writer.to_le_bytes());
            put_varint(part.number, &mut out);
            put_varint(part.length, &mut out);
            out.extend_from_slice(&part.checksum.to_le_bytes());
        }
        seal(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<(Stamp, Head), FormatError> {
        let (stamp, mut reader) = open(Kind::Head, bytes)?;
        let complete = decode_flags(&mut reader)?;
        let objects = reader.varint()?;
        let count = reader.count("number of parts", MAX_PARTS, 18)?;
        let mut parts = Vec::with_capacity(count);
        for _ in 0..count {
            parts.push(PartRef {
                writer: reader.u64()?,
                number: reader.varint()?,
                length: reader.varint()?,
                checksum: reader.u64()?,
            });
        }
        reader.end()?;
        let head = Head {
            complete,
            objects,
            parts,
        };
        Ok((stamp, head))
    }
}

pub(super) fn decode_flags(reader: &mut Reader<'_>) -> Result<bool, FormatError> {
    match reader.byte()? {
        0 => Ok(false),
        COMPLETE => Ok(true),
        _ => Err(FormatError::Field("flags")),
    }
}
