//! Names in a few large allocations.

/// A chunk's size in bytes. It holds the longest name of a catalog (65,535 bytes) many times.
const CHUNK: usize = 1 << 20;

/// A length of this many bytes or more is stored in two more bytes.
const LONG: u8 = u8::MAX;

/// Stores names, each with a tag of one byte, in a few large allocations.
///
/// A name takes its length and 2 bytes, from 255 bytes on 4; a `String` takes its length, 24 bytes, and an allocation. A
/// name is read by the address that [`NameArena::push`] returned. Removing a name ([`NameArena::forget`]) only counts its
/// bytes: the owner of the addresses copies the other names to a new arena when [`NameArena::is_wasteful`].
#[derive(Debug, Clone, Default)]
pub struct NameArena {
    chunks: Vec<Vec<u8>>,
    forgotten: usize,
}

impl NameArena {
    /// The length of the longest name that can be stored, in bytes.
    pub const MAX_LEN: usize = 65_535;

    /// An empty arena, without allocations.
    #[must_use]
    pub const fn new() -> NameArena {
        NameArena {
            chunks: Vec::new(),
            forgotten: 0,
        }
    }

    /// Stores a name with a tag, and returns its address. `None` if the name has more than [`NameArena::MAX_LEN`]
    /// bytes, or the arena has reached 4 GiB.
    pub fn push(&mut self, tag: u8, name: &str) -> Option<u32> {
        let len = u16::try_from(name.len()).ok()?;
        let short = u8::try_from(len).ok().filter(|len| *len < LONG);
        let header = if short.is_some() { 2 } else { 4 };
        let full = |chunk: &Vec<u8>| chunk.len() + header + name.len() > CHUNK;
        if self.chunks.last().is_none_or(full) {
            // A small arena stays small: the first chunk grows as a Vec does.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let last = self.chunks.len() - 1;
        let chunk = &mut self.chunks[last];
        // The last address is not used, so that the owner can give it a meaning.
        let address = u32::try_from(last * CHUNK + chunk.len()).ok();
        let address = address.filter(|address| *address != u32::MAX)?;
        chunk.push(tag);
        match short {
            Some(len) => chunk.push(len),
            None => {
                chunk.push(LONG);
                chunk.extend_from_slice(&len.to_le_bytes());
            }
        }
        chunk.extend_from_slice(name.as_bytes());
        Some(address)
    }

    /// The bytes from an address on, the length of the header, and that of the name.
    fn at(&self, address: u32) -> (&[u8], usize, usize) {
        let at = usize::try_from(address).unwrap_or(usize::MAX);
        let chunk = self.chunks.get(at / CHUNK);
        let rest = chunk.and_then(|chunk| chunk.get(at % CHUNK..));
        let rest = rest.unwrap_or_default();
        match rest {
            [_, LONG, low, high, ..] => (rest, 4, usize::from(u16::from_le_bytes([*low, *high]))),
            [_, len, ..] => (rest, 2, usize::from(*len)),
            _ => (rest, 0, 0),
        }
    }

    /// The name at an address; empty for an address that this arena did not return.
    #[must_use]
    pub fn name(&self, address: u32) -> &str {
        std::str::from_utf8(self.name_bytes(address)).unwrap_or_default()
    }

    /// The same without the check that the bytes are UTF-8, which takes longer than to compare them.
    pub(crate) fn name_bytes(&self, address: u32) -> &[u8] {
        let (rest, header, len) = self.at(address);
        rest.get(header..header + len).unwrap_or_default()
    }

    /// The tag of the name at an address; 0 for an address that this arena did not return.
    #[must_use]
    pub fn tag(&self, address: u32) -> u8 {
        self.at(address).0.first().copied().unwrap_or(0)
    }

    /// Changes the tag of the name at an address.
    pub fn set_tag(&mut self, address: u32, tag: u8) {
        let at = usize::try_from(address).unwrap_or(usize::MAX);
        let chunk = self.chunks.get_mut(at / CHUNK);
        if let Some(byte) = chunk.and_then(|chunk| chunk.get_mut(at % CHUNK)) {
            *byte = tag;
        }
    }

    /// Counts the name at an address as removed.
    pub fn forget(&mut self, address: u32) {
        let (_, header, len) = self.at(address);
        self.forgotten += header + len;
    }

    /// The number of bytes that the arena uses, including those of removed names.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        self.chunks.len().saturating_sub(1) * CHUNK + last
    }

    /// Whether more than half of the arena, and more than 64 KiB, are removed names.
    #[must_use]
    pub fn is_wasteful(&self) -> bool {
        self.forgotten > (64 << 10) && self.forgotten > self.bytes() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags_are_read_at_their_addresses() {
        let mut arena = NameArena::new();
        let names: Vec<String> = (0..3000)
            .map(|n| format!("{n}{}", "é".repeat(n % 700)))
            .collect();
        let at: Vec<u32> = names.iter().map(|n| arena.push(7, n).unwrap()).collect();
        arena.set_tag(at[1], 9);
        for (name, at) in names.iter().zip(&at) {
            assert_eq!(arena.name(*at), name);
        }
        assert_eq!((arena.tag(at[0]), arena.tag(at[1])), (7, 9));
        assert!(arena.push(0, &"x".repeat(65_535)).is_some());
        assert!(arena.push(0, &"x".repeat(65_536)).is_none());
        assert_eq!(arena.name(u32::MAX), "");
        assert!(!arena.is_wasteful());
        at.iter().for_each(|at| arena.forget(*at));
        assert!(arena.is_wasteful());
    }

    #[test]
    fn chunks_are_filled_to_the_last_byte_and_half_of_64_kib_may_be_wasted() {
        let of = |count| {
            let mut arena = NameArena::new();
            // Each takes 256 bytes.
            let at = (0..count).map(|_| arena.push(0, &"x".repeat(254)).unwrap());
            let at: Vec<u32> = at.collect();
            (arena, at)
        };
        let (mut arena, _) = of(4096);
        assert_eq!(arena.bytes(), CHUNK);
        let next = arena.push(0, "y").unwrap();
        assert_eq!((arena.name(next), arena.bytes()), ("y", CHUNK + 3));
        for (count, removed, wasteful) in [
            (4096, 2048, false),
            (4096, 2049, true),
            (300, 256, false),
            (300, 257, true),
        ] {
            let (mut arena, at) = of(count);
            at[..removed].iter().for_each(|at| arena.forget(*at));
            assert_eq!(arena.is_wasteful(), wasteful, "{removed} of {count}");
        }
    }
}
