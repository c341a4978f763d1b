//! The wire format, encoded without the project's own codec, so that a bug cannot cancel out at both ends.

use std::hash::Hasher;

pub(crate) use jtp_kit::joined;
use twox_hash::XxHash64;

pub(crate) const GET: u8 = 0;
pub(crate) const LIST: u8 = 1;
pub(crate) const BATCH: u8 = 2;
pub(crate) const LIST_AND_GET: u8 = 5;
pub(crate) const CANCEL: [u8; 2] = [3, 0];
pub(crate) const WATCH: [u8; 2] = [4, 0];

/// The request flag that keeps the connection open. // W7
pub(crate) const KEEP: u8 = 1;

/// The flag of an entry or packet whose data is Zstd-compressed. // W4
pub(crate) const ZSTD: u8 = 8;

pub(crate) const INVALID_REQUEST: u8 = 2;
pub(crate) const SERVER_ERROR: u8 = 3;
pub(crate) const UNSUPPORTED_FEATURE: u8 = 4;
pub(crate) const RATE_LIMITED: u8 = 5;

pub(crate) fn id_of(image: &[u8]) -> u64 {
    let mut hasher = XxHash64::with_seed(0);
    hasher.write(image);
    hasher.finish()
}

pub(crate) fn varint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

pub(crate) fn get(flags: u8, ids: &[u64]) -> Vec<u8> {
    let mut bytes = vec![GET, flags, u8::try_from(ids.len()).unwrap()];
    bytes.extend(joined(ids.iter().map(|id| id.to_be_bytes())));
    bytes
}

pub(crate) fn batch(flags: u8, have: &[u64]) -> Vec<u8> {
    let mut bytes = vec![BATCH, flags];
    bytes.extend(varint(u32::try_from(have.len()).unwrap()));
    bytes.extend(joined(have.iter().map(|id| id.to_be_bytes())));
    bytes
}

/// A packet with these bytes as sent.
pub(crate) fn packet(flags: u8, id: u64, data: &[u8]) -> Vec<u8> {
    let head = [&[flags][..], &varint(len(data)), &id.to_be_bytes()].concat();
    [&head[..], data].concat()
}

pub(crate) fn entry(flags: u8, id: u64, name: &str, size: u32) -> Vec<u8> {
    let name_len = u16::try_from(name.len()).unwrap().to_be_bytes();
    [
        &id.to_be_bytes()[..],
        &[flags],
        &name_len,
        name.as_bytes(),
        &varint(size),
    ]
    .concat()
}

/// `JTPL`, `JTPB` or `JTPG`, and the count.
pub(crate) fn head(header: &[u8; 4], count: usize) -> Vec<u8> {
    [&header[..], &varint(u32::try_from(count).unwrap())].concat()
}

/// `JTPD` and the count.
pub(crate) fn data_head(count: u8) -> Vec<u8> {
    [&b"JTPD"[..], &[count]].concat()
}

pub(crate) fn error(code: u8, message: &str) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&b"JTPE"[..], &[code], &length, message.as_bytes()].concat()
}

/// An image with what the tests compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestImage {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) id: u64,
    /// The file type; the flags of its packet if a hostile server sends it.
    pub(crate) kind: u8,
}

impl TestImage {
    pub(crate) fn new(name: &str, bytes: Vec<u8>) -> TestImage {
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let kind = match extension {
            "png" => 0,
            "jpg" => 1,
            "webp" => 2,
            "bmp" => 3,
            "gif" => 4,
            _ => 7,
        };
        TestImage {
            name: name.to_owned(),
            id: id_of(&bytes),
            bytes,
            kind,
        }
    }

    /// Its entry if sent uncompressed.
    pub(crate) fn entry(&self) -> Vec<u8> {
        entry(self.kind & 0x0f, self.id, &self.name, len(&self.bytes))
    }

    /// Its event.
    pub(crate) fn event(&self) -> Vec<u8> {
        [&b"JTPW"[..], &self.entry()].concat()
    }

    /// Its packet if sent uncompressed.
    pub(crate) fn packet(&self) -> Vec<u8> {
        packet(self.kind, self.id, &self.bytes)
    }
}

/// The response to LIST if everything is sent uncompressed.
pub(crate) fn list_of(images: &[TestImage]) -> Vec<u8> {
    let entries = joined(images.iter().map(TestImage::entry));
    [head(b"JTPL", images.len()), entries].concat()
}

/// The response to BATCH or LIST_AND_GET if everything is sent uncompressed.
pub(crate) fn images_of(header: &[u8; 4], images: &[TestImage]) -> Vec<u8> {
    let packets = joined(images.iter().map(TestImage::packet));
    [head(header, images.len()), packets].concat()
}

/// The response to GET_BY_ID if everything is sent uncompressed.
pub(crate) fn data_of(images: &[&TestImage]) -> Vec<u8> {
    let packets = joined(images.iter().map(|image| image.packet()));
    [data_head(u8::try_from(images.len()).unwrap()), packets].concat()
}
