//! A catalog in memory.

use std::borrow::Cow;

use jtp_core::client::CatalogEntry;

use super::Error;

const ENTRY: usize = size_of::<CatalogEntry<'static>>();

/// Collects the entries of a catalog within limits for their number and for the memory that they occupy. // R3
#[derive(Debug)]
pub(super) struct Catalog {
    entries: Vec<CatalogEntry<'static>>,
    max_entries: usize,
    max_bytes: usize,
    /// The memory that the names occupy.
    names: usize,
}

impl Catalog {
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Catalog {
        Catalog {
            entries: Vec::new(),
            max_entries,
            max_bytes,
            names: 0,
        }
    }

    /// Adds an entry. `announced` is the number of entries that the server promises in all.
    pub(super) fn push(
        &mut self,
        entry: CatalogEntry<'static>,
        announced: usize,
    ) -> Result<(), Error> {
        self.names = self.names.saturating_add(name_memory(&entry.name));
        if self.entries.len() >= self.max_entries
            || self.memory(self.entries.capacity()) > self.max_bytes
        {
            return Err(self.too_large());
        }
        if self.entries.len() == self.entries.capacity() {
            self.grow(announced)?;
        }
        self.entries.push(entry);
        Ok(())
    }

    pub(super) fn into_entries(self) -> Vec<CatalogEntry<'static>> {
        self.entries
    }

    /// Doubles the capacity, within what the server announced and the limits allow.
    fn grow(&mut self, announced: usize) -> Result<(), Error> {
        let count = self.entries.len();
        let wanted = count
            .saturating_mul(2)
            .max(64)
            .min(announced.max(count + 1))
            .min(self.max_entries);
        // The old allocation exists until all entries are moved to the new one.
        let free = self.max_bytes.saturating_sub(self.memory(count));
        let capacity = wanted.min(free / ENTRY);
        // Smaller steps would move all entries again and again.
        if capacity <= count || capacity < wanted.min(count + count / 8) {
            return Err(self.too_large());
        }
        self.entries.reserve_exact(capacity - count);
        Ok(())
    }

    /// The memory that the names and this number of entries occupy.
    fn memory(&self, capacity: usize) -> usize {
        self.names.saturating_add(capacity.saturating_mul(ENTRY))
    }

    fn too_large(&self) -> Error {
        Error::CatalogTooLarge {
            entries: self.max_entries,
            bytes: self.max_bytes,
        }
    }
}

/// The memory of a name, with what usual allocators add: a header of 8 bytes, multiples of 16 bytes, 32 at least.
#[expect(clippy::ptr_arg, reason = "the capacity of an owned name counts")]
fn name_memory(name: &Cow<'static, str>) -> usize {
    match name {
        Cow::Owned(name) if name.capacity() > 0 => {
            let used = name.capacity().saturating_add(8);
            used.checked_next_multiple_of(16)
                .unwrap_or(usize::MAX)
                .max(32)
        }
        Cow::Owned(_) | Cow::Borrowed(_) => 0,
    }
}
