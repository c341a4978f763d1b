//! Reads fields from bytes.

use super::FormatError;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// That of the format.
    version: u8,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], version: u8) -> Reader<'a> {
        Reader { bytes, version }
    }

    pub(super) fn version(&self) -> u8 {
        self.version
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let (bytes, rest) = self
            .bytes
            .split_at_checked(len)
            .ok_or(FormatError::Length)?;
        self.bytes = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (bytes, rest) = self.bytes.split_first_chunk().ok_or(FormatError::Length)?;
        self.bytes = rest;
        Ok(*bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, FormatError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number in its shortest encoding.
    pub(super) fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            // The tenth byte has one bit; a last byte of 0 is superfluous.
            if (shift == 63 && byte > 1) || (shift > 0 && byte == 0) {
                return Err(FormatError::Field("varint"));
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FormatError::Field("varint"))
    }

    /// A number of things that have at least `min_len` bytes each, and are at most `max`.
    pub(super) fn count(
        &mut self,
        field: &'static str,
        max: usize,
        min_len: usize,
    ) -> Result<usize, FormatError> {
        let count = usize::try_from(self.varint()?).map_err(|_| FormatError::Field(field))?;
        if count > max {
            return Err(FormatError::Field(field));
        }
        match count > self.left() / min_len.max(1) {
            true => Err(FormatError::Length),
            false => Ok(count),
        }
    }

    /// Text after its length, at most `max` bytes.
    pub(super) fn text(&mut self, field: &'static str, max: usize) -> Result<&'a str, FormatError> {
        let len = self.count(field, max, 1)?;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| FormatError::Field(field))
    }

    /// The end of the body.
    pub(super) fn end(&self) -> Result<(), FormatError> {
        match self.bytes.is_empty() {
            true => Ok(()),
            false => Err(FormatError::Length),
        }
    }
}
