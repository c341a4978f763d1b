//! A part of a snapshot: records in the order of their keys.

use super::object::MIN_OBJECT_LEN;
use super::{
    CHECKSUM_LEN, FormatError, Kind, MAX_KEY_LEN, Object, Stamp, VERSION, begin, open, put_key,
    put_len, seal,
};

/// Writes a part.
pub(crate) struct PartWriter {
    stamp: Stamp,
    version: u8,
    entries: Vec<u8>,
    count: usize,
    last_key: String,
}

impl PartWriter {
    pub(crate) fn new(stamp: Stamp) -> PartWriter {
        PartWriter {
            stamp,
            version: VERSION,
            entries: Vec::new(),
            count: 0,
            last_key: String::new(),
        }
    }

    /// Appends a record. Keys ascend.
    pub(crate) fn push(&mut self, key: &str, object: &Object) {
        put_key(key, &mut self.last_key, &mut self.entries);
        object.encode(&mut self.entries);
        self.version = self.version.max(object.version());
        self.count += 1;
    }

    /// The number of bytes of the records.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = begin(Kind::Part, self.version, self.stamp);
        out.reserve_exact(self.entries.len() + 10 + CHECKSUM_LEN);
        put_len(self.count, &mut out);
        out.extend_from_slice(&self.entries);
        seal(out)
    }
}

/// Decodes a part and gives each record to `take`. `after` is the last key of the part before; it becomes that of this one.
pub(crate) fn decode_part(
    bytes: &[u8],
    after: Option<&mut Option<String>>,
    mut take: impl FnMut(&str, Object),
) -> Result<Stamp, FormatError> {
    let (stamp, mut reader) = open(Kind::Part, bytes)?;
    let count = reader.count("number of objects", usize::MAX, 2 + MIN_OBJECT_LEN)?;
    let mut own = None;
    let last = after.unwrap_or(&mut own);
    let mut key: Vec<u8> = Vec::new();
    for _ in 0..count {
        let shared = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        let rest = reader.count("length of a key", MAX_KEY_LEN, 1)?;
        if shared > key.len() || shared + rest > MAX_KEY_LEN {
            return Err(FormatError::Field("length of a key"));
        }
        key.truncate(shared);
        key.extend_from_slice(reader.bytes(rest)?);
        let text = std::str::from_utf8(&key).map_err(|_| FormatError::Field("key"))?;
        if text.is_empty() || last.as_deref().is_some_and(|last| last >= text) {
            return Err(FormatError::Field("key"));
        }
        let object = Object::decode(&mut reader)?;
        match last {
            Some(last) => text.clone_into(last),
            None => *last = Some(text.to_owned()),
        }
        take(text, object);
    }
    reader.end()?;
    Ok(stamp)
}
