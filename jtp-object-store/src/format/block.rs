//! Records in memory in the encoding of a part, with tables to find them by key and by image.

use std::cmp::Ordering;

use jtp_core::ImageId;

use super::{Object, Reader, VARIANT_VERSION, put_key};

/// Each key at such an index is whole; the others share leading bytes with the key before.
const GROUP: usize = 32;

/// The images of each bucket but the last one.
const BUCKET: usize = 32;

/// Records that do not change, in the order of their keys.
#[derive(Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    /// Where each group of records begins in `bytes`.
    groups: Vec<usize>,
    /// The records of images, in the order of IDs, then of keys.
    images: Vec<u32>,
    /// A byte of the ID of each image of `images`. The records have the IDs.
    tags: Vec<u8>,
    /// The first ID of each bucket of `images`.
    buckets: Vec<ImageId>,
    len: usize,
}

impl Block {
    /// The most records.
    pub(crate) const MAX_LEN: u64 = u32::MAX as u64;

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All records in the order of keys.
    pub(crate) fn iter(&self) -> Records<'_> {
        self.group(0)
    }

    /// The index of a key, and its record.
    pub(crate) fn find(&self, key: &str) -> Option<(usize, Object)> {
        let is_before = |start: &usize| {
            self.key_at(*start)
                .is_some_and(|first| first <= key.as_bytes())
        };
        let group = self.groups.partition_point(is_before).checked_sub(1)?;
        let mut records = self.group(group);
        for index in group * GROUP..(group + 1) * GROUP {
            let object = records.advance()?;
            match records.key.as_slice().cmp(key.as_bytes()) {
                Ordering::Less => {}
                Ordering::Equal => return Some((index, object)),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The record of an index.
    pub(crate) fn get(&self, index: usize) -> Option<(String, Object)> {
        let mut records = self.group(index / GROUP);
        for _ in 0..index % GROUP {
            records.advance()?;
        }
        records.next()
    }

    /// The indices of the records of an image, in the order of keys.
    pub(crate) fn indices(&self, id: ImageId) -> impl Iterator<Item = usize> {
        // The bucket before the first one that begins with the ID may end with it.
        let bucket = self.buckets.partition_point(|first| first.0 < id.0);
        let start = bucket.saturating_sub(1) * BUCKET;
        let after = self.buckets.partition_point(|first| first.0 <= id.0);
        let images = self.images.iter().zip(&self.tags);
        let images = images.take(after * BUCKET).skip(start);
        images
            .filter(move |(_, other)| **other == tag(id))
            .map(|(index, _)| to_usize(*index))
            .filter(move |index| self.id(*index) == Some(id))
    }

    fn id(&self, index: usize) -> Option<ImageId> {
        self.object(index)?.image().map(|image| image.id)
    }

    fn object(&self, index: usize) -> Option<Object> {
        let mut records = self.group(index / GROUP);
        for _ in 0..index % GROUP {
            records.advance()?;
        }
        records.advance()
    }

    fn group(&self, group: usize) -> Records<'_> {
        let start = self.groups.get(group).copied().unwrap_or(self.bytes.len());
        Records {
            reader: Reader::new(self.bytes.get(start..).unwrap_or_default(), VARIANT_VERSION),
            key: Vec::new(),
        }
    }

    /// The key of the first record of a group.
    fn key_at(&self, start: usize) -> Option<&[u8]> {
        let mut reader = Reader::new(self.bytes.get(start..)?, VARIANT_VERSION);
        reader.varint().ok()?;
        let len = reader.varint().ok()?;
        reader.bytes(usize::try_from(len).ok()?).ok()
    }
}

fn tag(id: ImageId) -> u8 {
    let [.., last] = id.to_be_bytes();
    last
}

fn to_usize(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The records of a block from one of its groups on.
pub(crate) struct Records<'a> {
    reader: Reader<'a>,
    key: Vec<u8>,
}

impl Records<'_> {
    /// Reads a record; its key is in `self.key`.
    fn advance(&mut self) -> Option<Object> {
        let shared = usize::try_from(self.reader.varint().ok()?).ok()?;
        let rest = usize::try_from(self.reader.varint().ok()?).ok()?;
        self.key.truncate(shared);
        self.key.extend_from_slice(self.reader.bytes(rest).ok()?);
        Object::decode(&mut self.reader).ok()
    }
}

impl Iterator for Records<'_> {
    type Item = (String, Object);

    fn next(&mut self) -> Option<(String, Object)> {
        let object = self.advance()?;
        let key = std::str::from_utf8(&self.key).ok()?;
        Some((key.to_owned(), object))
    }
}

/// Makes a [`Block`].
#[derive(Default)]
pub(crate) struct BlockWriter {
    bytes: Vec<u8>,
    groups: Vec<usize>,
    images: Vec<(ImageId, u32)>,
    len: usize,
    last_key: String,
}

impl BlockWriter {
    /// Appends a record. Keys ascend, and there are at most [`Block::MAX_LEN`].
    pub(crate) fn push(&mut self, key: &str, object: &Object) {
        if self.len % GROUP == 0 {
            self.groups.push(self.bytes.len());
            self.last_key.clear();
        }
        put_key(key, &mut self.last_key, &mut self.bytes);
        object.encode(&mut self.bytes);
        if let Some(image) = object.image() {
            let index = u32::try_from(self.len).unwrap_or(u32::MAX);
            self.images.push((image.id, index));
        }
        self.len += 1;
    }

    pub(crate) fn finish(mut self) -> Block {
        self.images
            .sort_unstable_by_key(|(id, index)| (id.0, *index));
        self.bytes.shrink_to_fit();
        self.groups.shrink_to_fit();
        Block {
            bytes: self.bytes,
            groups: self.groups,
            images: self.images.iter().map(|(_, index)| *index).collect(),
            tags: self.images.iter().map(|(id, _)| tag(*id)).collect(),
            buckets: self
                .images
                .iter()
                .step_by(BUCKET)
                .map(|(id, _)| *id)
                .collect(),
            len: self.len,
        }
    }
}

#[cfg(test)]
mod tests {
    use jtp_core::FileType;

    use super::*;
    use crate::format::{Contents, Identity};

    #[test]
    fn each_record_is_found_by_key_index_and_image_at_all_lengths_around_a_group() {
        for len in [0, 1, 31, 32, 33, 64, 200u32] {
            let mut writer = BlockWriter::default();
            let records: Vec<_> = (0..len)
                .map(|n| {
                    // Two objects have the same image. Each seventh object is no image.
                    let id = ImageId(u64::from(n % len.div_ceil(2)));
                    let file_type = FileType::Png;
                    let contents = match n % 7 {
                        0 => Contents::NotImage,
                        _ => Contents::Image { id, file_type },
                    };
                    let identity = Identity::new(Some("e"), None, u64::from(n));
                    (format!("2024/é{n:04}.png"), Object::new(identity, contents))
                })
                .collect();
            for (key, object) in &records {
                writer.push(key, object);
            }
            let block = writer.finish();
            assert!(block.iter().eq(records.iter().cloned()));
            for (index, (key, object)) in records.iter().enumerate() {
                assert_eq!(block.find(key), Some((index, object.clone())));
                assert_eq!(block.get(index), Some((key.clone(), object.clone())));
                for other in [format!("{key}!"), key.replace(".png", "")] {
                    assert_eq!(block.find(&other), None, "{other}");
                }
                let id = ImageId(u64::from(u32::try_from(index).unwrap() % len.div_ceil(2)));
                let is_same = |object: &Object| object.image().is_some_and(|image| image.id == id);
                let same = records.iter().enumerate();
                let same = same.filter(|(_, (_, object))| is_same(object));
                assert!(block.indices(id).eq(same.map(|(index, _)| index)));
            }
            assert_eq!(block.find("2024/"), None);
            assert_eq!(block.find("3"), None);
            assert_eq!(block.get(records.len()), None);
        }
    }
}
