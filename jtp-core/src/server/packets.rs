//! Which images a response sends, and in which order.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::catalog::{Catalog, Place};
use crate::image::{Image, ImageId};

/// The images of a snapshot that a client has, one bit each. // S8
#[derive(Debug, Clone)]
pub(super) struct HaveBitmap {
    bits: Vec<u64>,
    /// Number of marked images in each chunk of the catalog.
    in_chunk: Vec<u32>,
    marked: u32,
}

impl HaveBitmap {
    /// A bitmap without any mark. Its size depends on the catalog, not on what the client announces.
    pub(super) fn new(catalog: &Catalog) -> HaveBitmap {
        HaveBitmap {
            bits: vec![0; catalog.len().div_ceil(64)],
            in_chunk: vec![0; catalog.chunks()],
            marked: 0,
        }
    }

    /// Marks an image. Unknown and repeated IDs have no effect. // S8
    pub(super) fn mark(&mut self, catalog: &Catalog, id: ImageId) {
        let Some((ordinal, chunk)) = catalog.locate(id) else {
            return;
        };
        let (Some(word), Some(in_chunk)) = (
            self.bits.get_mut(ordinal / 64),
            self.in_chunk.get_mut(chunk),
        ) else {
            return;
        };
        let bit = 1 << (ordinal % 64);
        if *word & bit == 0 {
            *word |= bit;
            *in_chunk += 1;
            self.marked += 1;
        }
    }

    fn has(&self, catalog: &Catalog, id: ImageId) -> bool {
        catalog.ordinal(id).is_some_and(|ordinal| {
            self.bits
                .get(ordinal / 64)
                .is_some_and(|word| word & (1 << (ordinal % 64)) != 0)
        })
    }

    /// Number of images of the catalog that are not marked.
    pub(super) fn missing(&self, catalog: &Catalog) -> u32 {
        u32::try_from(catalog.len())
            .unwrap_or(u32::MAX)
            .saturating_sub(self.marked)
    }

    /// The next image that is not marked, and the place after it.
    ///
    /// Looks up the images of two chunks at most: a chunk whose images are all marked is skipped as a whole, so a
    /// client that has nearly all of a large catalog does not delay other connections.
    fn next_missing(&self, catalog: &Catalog, place: &mut Place) -> Option<Image> {
        loop {
            catalog.skip_chunks(place, |chunk, images| {
                let marked = self.in_chunk.get(chunk).copied().unwrap_or(0);
                usize::try_from(marked).is_ok_and(|marked| marked == images)
            });
            let image = catalog.next_image(place)?;
            if !self.has(catalog, image.id) {
                return Some(image);
            }
        }
    }
}

/// The images that a response still has to send.
#[derive(Debug)]
pub(super) enum ImageQueue {
    /// The images of a `GET_BY_ID`, in the order of the request. // S7
    Requested(vec::IntoIter<Image>),
    /// All images from a place on, in catalog order. // S5
    All(Arc<Catalog>, Place),
    /// All images from a place on that the client does not have, in catalog order. // S5 S8
    Missing(Arc<Catalog>, Place, HaveBitmap),
}

impl ImageQueue {
    pub(super) fn next(&mut self) -> Option<Image> {
        match self {
            ImageQueue::Requested(images) => images.next(),
            ImageQueue::All(catalog, place) => catalog.next_image(place),
            ImageQueue::Missing(catalog, place, have) => have.next_missing(catalog, place),
        }
    }

    /// The images that [`ImageQueue::next`] will return, without removing them.
    pub(super) fn peek(&self) -> impl Iterator<Item = Image> + '_ {
        let (requested, mut place) = match self {
            ImageQueue::Requested(images) => (images.as_slice(), Place::default()),
            ImageQueue::All(_, place) | ImageQueue::Missing(_, place, _) => (&[][..], *place),
        };
        let rest = core::iter::from_fn(move || match self {
            ImageQueue::Requested(_) => None,
            ImageQueue::All(catalog, _) => catalog.next_image(&mut place),
            ImageQueue::Missing(catalog, _, have) => have.next_missing(catalog, &mut place),
        });
        requested.iter().copied().chain(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CatalogWriter;
    use crate::image::{FileType, Flags};

    #[test]
    fn s8_missing_images_are_found_in_any_chunk_without_a_lookup_of_the_others() {
        let images: u64 = if cfg!(miri) { 2_000 } else { 20_000 };
        let mut writer = CatalogWriter::new();
        for n in 0..images {
            let image = Image::new(ImageId(n << 40), Flags::new(FileType::Png, false), 1);
            writer.insert(&alloc::format!("{n:06}"), image).unwrap();
        }
        let catalog = writer.publish();
        assert!(catalog.chunks() > 3);
        let last = images - 1;
        for missing in [
            vec![],
            vec![0],
            vec![last],
            vec![0, 1, 700, last],
            (300..1_500).collect(),
            (0..images).collect::<Vec<u64>>(),
        ] {
            let mut have = HaveBitmap::new(&catalog);
            for n in (0..images).filter(|n| missing.binary_search(n).is_err()) {
                have.mark(&catalog, ImageId(n << 40));
                have.mark(&catalog, ImageId(n << 40));
                have.mark(&catalog, ImageId(n << 40 | 1)); // unknown
            }
            assert_eq!(have.missing(&catalog) as usize, missing.len());
            // Without the bits of the complete chunks the answer is the same only if nobody looks at them.
            let mut chunks_only = have.clone();
            if missing.len() < 5 {
                let complete = |n: &u64| {
                    let (_, chunk) = catalog.locate(ImageId(n << 40)).unwrap();
                    missing
                        .iter()
                        .all(|m| catalog.locate(ImageId(m << 40)).unwrap().1 != chunk)
                };
                for n in (0..images).filter(complete) {
                    let (ordinal, _) = catalog.locate(ImageId(n << 40)).unwrap();
                    chunks_only.bits[ordinal / 64] &= !(1 << (ordinal % 64));
                }
            }
            let mut queue = ImageQueue::Missing(catalog.clone(), Place::default(), chunks_only);
            let peeked: Vec<u64> = queue.peek().map(|image| image.id.0 >> 40).collect();
            let taken = core::iter::from_fn(|| queue.next());
            let taken: Vec<u64> = taken.map(|image| image.id.0 >> 40).collect();
            assert_eq!((&peeked, &taken), (&missing, &missing));
        }
    }
}
