//! The wire, written by hand: none of the project's own code, so that no bug can hide in both ends.

use std::hash::Hasher;

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
    bytes.extend(ids.iter().flat_map(|id| id.to_be_bytes()));
    bytes
}

pub(crate) fn batch(flags: u8, have: &[u64]) -> Vec<u8> {
    let mut bytes = vec![BATCH, flags];
    bytes.extend(varint(u32::try_from(have.len()).unwrap()));
    bytes.extend(have.iter().flat_map(|id| id.to_be_bytes()));
    bytes
}

/// A packet of the bytes that travel.
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

/// `JTPL`, `JTPB` or `JTPG` and their count.
pub(crate) fn head(header: &[u8; 4], count: usize) -> Vec<u8> {
    [&header[..], &varint(u32::try_from(count).unwrap())].concat()
}

/// `JTPD` and its count.
pub(crate) fn data_head(count: u8) -> Vec<u8> {
    [&b"JTPD"[..], &[count]].concat()
}

pub(crate) fn error(code: u8, message: &str) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&b"JTPE"[..], &[code], &length, message.as_bytes()].concat()
}

/// An image as the tests know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) id: u64,
    pub(crate) kind: u8,
}

impl Picture {
    pub(crate) fn new(name: &str, bytes: Vec<u8>) -> Picture {
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let kind = match extension {
            "png" => 0,
            "jpg" => 1,
            "webp" => 2,
            "bmp" => 3,
            "gif" => 4,
            _ => 7,
        };
        Picture {
            name: name.to_owned(),
            id: id_of(&bytes),
            bytes,
            kind,
        }
    }

    /// Its entry where it travels raw.
    pub(crate) fn entry(&self) -> Vec<u8> {
        entry(self.kind, self.id, &self.name, len(&self.bytes))
    }

    /// Its packet where it travels raw.
    pub(crate) fn packet(&self) -> Vec<u8> {
        packet(self.kind, self.id, &self.bytes)
    }
}

/// The answer to LIST where all travels raw.
pub(crate) fn list_of(pictures: &[Picture]) -> Vec<u8> {
    let entries: Vec<u8> = pictures.iter().flat_map(Picture::entry).collect();
    [head(b"JTPL", pictures.len()), entries].concat()
}

/// The answer to BATCH or LIST_AND_GET where all travels raw.
pub(crate) fn images_of(header: &[u8; 4], pictures: &[Picture]) -> Vec<u8> {
    let packets: Vec<u8> = pictures.iter().flat_map(Picture::packet).collect();
    [head(header, pictures.len()), packets].concat()
}

/// The answer to GET_BY_ID where all travels raw.
pub(crate) fn data_of(pictures: &[&Picture]) -> Vec<u8> {
    let packets: Vec<u8> = pictures.iter().flat_map(|p| p.packet()).collect();
    [data_head(u8::try_from(pictures.len()).unwrap()), packets].concat()
}
