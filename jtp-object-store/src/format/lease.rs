//! The lease object.

use super::{FormatError, Kind, Stamp, VERSION, begin, open, put_varint, seal};

/// Who indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseState {
    /// A random number of the holder.
    pub(crate) holder: u64,
    /// Increases with each renewal, so that each state of the lease has other bytes.
    pub(crate) renewals: u64,
    /// The holder has ended.
    pub(crate) released: bool,
}

impl LeaseState {
    pub(crate) fn encode(&self, stamp: Stamp) -> Vec<u8> {
        let mut out = begin(Kind::Lease, VERSION, stamp);
        out.extend_from_slice(&self.holder.to_le_bytes());
        put_varint(self.renewals, &mut out);
        out.push(u8::from(self.released));
        seal(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<(Stamp, LeaseState), FormatError> {
        let (stamp, mut reader) = open(Kind::Lease, bytes)?;
        let lease = LeaseState {
            holder: reader.u64()?,
            renewals: reader.varint()?,
            released: match reader.byte()? {
                0 => false,
                1 => true,
                _ => return Err(FormatError::Field("released")),
            },
        };
        reader.end()?;
        Ok((stamp, lease))
    }
}
