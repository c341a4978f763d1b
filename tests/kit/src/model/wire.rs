//! Frames. // Sections 3 to 5

use super::{BATCH, GET_BY_ID, LIST_AND_GET};

/// Why a frame cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Bytes are missing.
    Cut,
    /// The last byte read breaks a rule. In a request: the code of the error that answers it. // S10
    Bad(u8),
}

/// The head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The type byte.
    pub code: u8,
    /// Whether the connection stays open. Has no meaning for CANCEL and WATCH. // W7
    pub keep_alive: bool,
    /// The number of IDs that follow.
    pub ids: u32,
}

/// The head of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Image {
    pub id: u64,
    pub flags: u8,
    pub length: u32,
}

/// An entry of a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Entry {
    pub name: String,
    pub image: Image,
}

/// Reads fields from the front.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

type Field<T> = Result<T, Stop>;

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Field<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Stop::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Field<u8> {
        Ok(self.take(1)?[0])
    }

    /// W1
    pub(super) fn number(&mut self, bytes: usize) -> Field<u64> {
        let bytes = self.take(bytes)?;
        Ok(bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    /// W2
    pub(super) fn varint(&mut self) -> Field<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            if (byte == 0 && shift > 0) || (byte > 0x0f && shift == 28) {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Stop::Bad(2))
    }

    /// S10
    pub(super) fn head(&mut self) -> Field<Head> {
        let code = self.byte()?;
        if code > LIST_AND_GET {
            return Err(Stop::Bad(4));
        }
        let flags = self.byte()?;
        if flags > 1 {
            return Err(Stop::Bad(2));
        }
        let ids = match code {
            GET_BY_ID => u32::from(self.byte()?),
            BATCH => self.varint()?,
            _ => 0,
        };
        let keep_alive = flags == 1;
        Ok(Head {
            code,
            keep_alive,
            ids,
        })
    }

    /// An unknown one is bad from the first byte on that no header has there. // R1
    pub(super) fn header(&mut self) -> Field<[u8; 4]> {
        let known = [
            b"JTPL", b"JTPD", b"JTPB", b"JTPG", b"JTPC", b"JTPW", b"JTPE",
        ];
        let seen = &self.0[..self.0.len().min(4)];
        if !known.iter().any(|header| header.starts_with(seen)) {
            return Err(Stop::Bad(0));
        }
        Ok(self.take(4)?.try_into().unwrap())
    }

    /// W4 R1
    pub(super) fn packet(&mut self) -> Field<Image> {
        let flags = self.byte()?;
        if flags & 0xe0 != 0 {
            return Err(Stop::Bad(0));
        }
        let (length, id) = (self.varint()?, self.number(8)?);
        Ok(Image { id, flags, length })
    }

    /// W4 W6 R1
    pub(super) fn entry(&mut self) -> Field<Entry> {
        let (id, flags) = (self.number(8)?, self.byte()?);
        if flags & 0xf0 != 0 {
            return Err(Stop::Bad(0));
        }
        let length = self.number(2)? as usize;
        let name = std::str::from_utf8(self.take(length)?).map_err(|_| Stop::Bad(0))?;
        let (name, length) = (name.to_owned(), self.varint()?);
        let image = Image { id, flags, length };
        Ok(Entry { name, image })
    }
}

/// W2
pub(super) fn varint(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// The number of IDs or images in front of them: a byte for GET_BY_ID, else a varint.
fn count(request: u8, count: usize) -> Vec<u8> {
    match request {
        GET_BY_ID => vec![u8::try_from(count).unwrap()],
        _ => varint(u32::try_from(count).unwrap()),
    }
}

/// A response's header and count.
pub(super) fn response(request: u8, images: usize) -> Vec<u8> {
    [&super::header_of(request)[..], &count(request, images)].concat()
}

/// A request with its IDs. // W7
pub(super) fn request(code: u8, keep_alive: bool, ids: &[u64]) -> Vec<u8> {
    let mut out = vec![code, u8::from(keep_alive)];
    if let GET_BY_ID | BATCH = code {
        out.extend(count(code, ids.len()));
    }
    out.extend(crate::joined(ids.iter().map(|id| id.to_be_bytes())));
    out
}

impl Image {
    pub(super) fn head(&self) -> Vec<u8> {
        [
            &[self.flags][..],
            &varint(self.length),
            &self.id.to_be_bytes(),
        ]
        .concat()
    }
}

impl Entry {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Image { id, flags, length } = self.image;
        let name_len = u16::try_from(self.name.len()).unwrap().to_be_bytes();
        let fixed = [&id.to_be_bytes()[..], &[flags], &name_len].concat();
        [&fixed, self.name.as_bytes(), &varint(length)].concat()
    }
}
