//! Which images a response carries, one after another.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::catalog::{Catalog, Place};
use crate::image::{Image, ImageId};

/// The images of a snapshot that a client has, one bit each. // S8
#[derive(Debug, Clone)]
pub(super) struct Had {
    bits: Vec<u64>,
    count: u32,
}

impl Had {
    /// No image yet. The size is the catalog's, whatever the client says it has.
    pub(super) fn none(catalog: &Catalog) -> Had {
        Had {
            bits: vec![0; catalog.len().div_ceil(64)],
            count: 0,
        }
    }

    /// Notes an ID; unknown and doubled ones make no difference. // S8
    pub(super) fn mark(&mut self, catalog: &Catalog, id: ImageId) {
        let Some(ordinal) = catalog.ordinal(id) else {
            return;
        };
        if let Some(word) = self.bits.get_mut(ordinal / 64) {
            let bit = 1 << (ordinal % 64);
            self.count += u32::from(*word & bit == 0);
            *word |= bit;
        }
    }

    fn has(&self, catalog: &Catalog, id: ImageId) -> bool {
        catalog.ordinal(id).is_some_and(|ordinal| {
            self.bits
                .get(ordinal / 64)
                .is_some_and(|word| word & (1 << (ordinal % 64)) != 0)
        })
    }

    /// How many images of the catalog are not marked.
    pub(super) fn missing(&self, catalog: &Catalog) -> u32 {
        u32::try_from(catalog.len())
            .unwrap_or(u32::MAX)
            .saturating_sub(self.count)
    }
}

/// Where the next image comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// These, in the order asked. // S7
    Asked(vec::IntoIter<Image>),
    /// All, in catalog order. // S5
    All(Arc<Catalog>, Place),
    /// All that the client has not, in catalog order. // S5 S8
    Missing(Arc<Catalog>, Place, Had),
}

impl Source {
    pub(super) fn next(&mut self) -> Option<Image> {
        match self {
            Source::Asked(images) => images.next(),
            Source::All(catalog, place) => catalog.next_image(place),
            Source::Missing(catalog, place, had) => next_missing(catalog, place, had),
        }
    }

    /// The images that [`Source::next`] would give, without moving on.
    pub(super) fn peek(&self) -> impl Iterator<Item = Image> + '_ {
        let (asked, mut place) = match self {
            Source::Asked(images) => (images.as_slice(), Place::default()),
            Source::All(_, place) | Source::Missing(_, place, _) => (&[][..], *place),
        };
        let rest = core::iter::from_fn(move || match self {
            Source::Asked(_) => None,
            Source::All(catalog, _) => catalog.next_image(&mut place),
            Source::Missing(catalog, _, had) => next_missing(catalog, &mut place, had),
        });
        asked.iter().copied().chain(rest)
    }
}

fn next_missing(catalog: &Catalog, place: &mut Place, had: &Had) -> Option<Image> {
    loop {
        let image = catalog.next_image(place)?;
        if !had.has(catalog, image.id) {
            return Some(image);
        }
    }
}
