//! A log object: changes from one state of the catalog to the next.

use super::head::decode_flags;
use super::{FormatError, Kind, MAX_KEY_LEN, Object, Stamp, VERSION, begin, open, put_len, seal};

/// The most changes of a log object.
pub(crate) const MAX_CHANGES: usize = 10_000;

/// A change of the record of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The key below the prefix.
    pub(crate) key: Box<str>,
    /// The new record; `None` if the object was removed.
    pub(crate) object: Option<Object>,
}

/// A log object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogRecord {
    pub(crate) writer: u64,
    /// Whether all objects of the bucket were read once by now.
    pub(crate) complete: bool,
    pub(crate) changes: Vec<Change>,
}

impl LogRecord {
    pub(crate) fn encode(&self, stamp: Stamp) -> Vec<u8> {
        let objects = self.changes.iter().flat_map(|change| &change.object);
        let version = objects.map(Object::version).max().unwrap_or(VERSION);
        let mut out = begin(Kind::Log, version, stamp);
        out.extend_from_slice(&self.writer.to_le_bytes());
        out.push(u8::from(self.complete));
        put_len(self.changes.len(), &mut out);
        for change in &self.changes {
            out.push(u8::from(change.object.is_some()));
            put_len(change.key.len(), &mut out);
            out.extend_from_slice(change.key.as_bytes());
            if let Some(object) = &change.object {
                object.encode(&mut out);
            }
        }
        seal(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<(Stamp, LogRecord), FormatError> {
        let (stamp, mut reader) = open(Kind::Log, bytes)?;
        let writer = reader.u64()?;
        let complete = decode_flags(&mut reader)?;
        let count = reader.count("number of changes", MAX_CHANGES, 3)?;
        let mut changes = Vec::with_capacity(count);
        for _ in 0..count {
            let tag = reader.byte()?;
            let key = reader.text("key", MAX_KEY_LEN)?;
            if key.is_empty() {
                return Err(FormatError::Field("key"));
            }
            let object = match tag {
                0 => None,
                1 => Some(Object::decode(&mut reader)?),
                _ => return Err(FormatError::Field("change")),
            };
            let key = key.into();
            changes.push(Change { key, object });
        }
        reader.end()?;
        let record = LogRecord {
            writer,
            complete,
            changes,
        };
        Ok((stamp, record))
    }
}
