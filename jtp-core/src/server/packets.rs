//! Which images a response sends, and in which order.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
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

    /// Moves `place` over chunks whose images are all marked.
    fn skip_complete(&self, catalog: &Catalog, place: &mut Place) {
        catalog.skip_chunks(place, |chunk, images| {
            let marked = self.in_chunk.get(chunk).copied().unwrap_or(0);
            usize::try_from(marked).is_ok_and(|marked| marked == images)
        });
    }
}

/// The most images that are found ahead of the one that is sent next, for reading ahead.
const MAX_AHEAD: usize = 256;

/// After this many lookups no further images are searched in a call, if one is found: two chunks.
const MAX_LOOKUPS: usize = 1024;

/// The images that a client does not have, in catalog order. Each image is looked up once. // S5 S8
///
/// A chunk whose images are all marked is skipped as a whole, so a client that has nearly all of a large catalog does
/// not delay other connections.
#[derive(Debug)]
pub(super) struct MissingImages {
    catalog: Arc<Catalog>,
    have: HaveBitmap,
    /// Images that were found. Empty only if none is left.
    ahead: VecDeque<Image>,
    /// The place after them.
    place: Place,
    /// Number of lookups since they were last counted.
    lookups: usize,
}

impl MissingImages {
    pub(super) fn new(catalog: Arc<Catalog>, have: HaveBitmap) -> MissingImages {
        let mut missing = MissingImages {
            catalog,
            have,
            ahead: VecDeque::new(),
            place: Place::default(),
            lookups: 0,
        };
        missing.search();
        missing
    }

    /// Number of missing images in all.
    pub(super) fn count(&self) -> u32 {
        self.have.missing(&self.catalog)
    }

    fn next(&mut self) -> Option<Image> {
        let next = self.ahead.pop_front();
        self.search();
        next
    }

    /// Finds at least one image, if one is left, and more as far as the limits allow.
    fn search(&mut self) {
        let mut lookups = 0;
        while self.ahead.is_empty() || (self.ahead.len() < MAX_AHEAD && lookups < MAX_LOOKUPS) {
            self.have.skip_complete(&self.catalog, &mut self.place);
            let Some(image) = self.catalog.next_image(&mut self.place) else {
                break;
            };
            lookups += 1;
            if !self.have.has(&self.catalog, image.id) {
                self.ahead.push_back(image);
            }
        }
        self.lookups += lookups;
    }
}

/// The images that a response still has to send.
#[derive(Debug)]
pub(super) enum ImageQueue {
    /// The images of a `GET_BY_ID`, in the order of the request. // S7
    Requested(vec::IntoIter<Image>),
    /// All images from a place on, in catalog order. // S5
    All(Arc<Catalog>, Place),
    /// All images that the client does not have.
    Missing(Box<MissingImages>),
}

impl ImageQueue {
    pub(super) fn next(&mut self) -> Option<Image> {
        match self {
            ImageQueue::Requested(images) => images.next(),
            ImageQueue::All(catalog, place) => catalog.next_image(place),
            ImageQueue::Missing(missing) => missing.next(),
        }
    }

    /// The images that [`ImageQueue::next`] will return, without removing them: all of them, or at least one.
    pub(super) fn peek(&self) -> impl Iterator<Item = Image> + '_ {
        let (requested, ahead) = match self {
            ImageQueue::Requested(images) => (images.as_slice(), None),
            ImageQueue::All(..) => (&[][..], None),
            ImageQueue::Missing(missing) => (&[][..], Some(missing.ahead.iter())),
        };
        let mut place = match self {
            ImageQueue::All(_, place) => *place,
            _ => Place::default(),
        };
        let rest = core::iter::from_fn(move || match self {
            ImageQueue::All(catalog, _) => catalog.next_image(&mut place),
            _ => None,
        });
        let known = requested.iter().chain(ahead.into_iter().flatten());
        known.copied().chain(rest)
    }

    /// Number of lookups since the last call.
    pub(super) fn take_lookups(&mut self) -> usize {
        match self {
            ImageQueue::Missing(missing) => core::mem::take(&mut missing.lookups),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CatalogWriter;
    use crate::image::{FileType, Flags};

    fn numbered(images: u64) -> Arc<Catalog> {
        let mut writer = CatalogWriter::new();
        for n in 0..images {
            let image = Image::new(ImageId(n << 40), Flags::new(FileType::Png, false), 1);
            writer.insert(&alloc::format!("{n:06}"), image).unwrap();
        }
        writer.publish()
    }

    #[test]
    fn s8_missing_images_are_found_in_any_chunk_without_a_lookup_of_the_others() {
        let images: u64 = if cfg!(miri) { 2_000 } else { 20_000 };
        let catalog = numbered(images);
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
            let images = MissingImages::new(catalog.clone(), chunks_only);
            let mut queue = ImageQueue::Missing(Box::new(images));
            let mut taken = Vec::new();
            loop {
                let mut rest = missing.get(taken.len()..).unwrap_or_default().iter();
                for image in queue.peek() {
                    assert_eq!(Some(&(image.id.0 >> 40)), rest.next());
                }
                let left = missing.len() - taken.len();
                let peeked = left - rest.len();
                let Some(image) = queue.next() else {
                    break;
                };
                // Where others lie between them, it may be fewer.
                let expected = if missing.len() < 5 {
                    1
                } else {
                    left.min(MAX_AHEAD)
                };
                assert!((expected..=left.min(MAX_AHEAD)).contains(&peeked));
                taken.push(image.id.0 >> 40);
            }
            assert_eq!(taken, missing);
        }
    }

    #[test]
    fn t8_each_image_is_looked_up_once_and_no_more_than_two_chunks_in_a_call() {
        let images: u64 = if cfg!(miri) { 2_000 } else { 20_000 };
        let catalog = numbered(images);
        // One image of about each chunk is missing: no chunk is skipped, and each holds little to send.
        let mut have = HaveBitmap::new(&catalog);
        for n in (0..images).filter(|n| n % 300 != 299) {
            have.mark(&catalog, ImageId(n << 40));
        }
        let missing = MissingImages::new(catalog.clone(), have);
        let mut queue = ImageQueue::Missing(Box::new(missing));
        let mut total = queue.take_lookups();
        assert!(total <= MAX_LOOKUPS, "{total} at the start");
        while queue.next().is_some() {
            assert!(queue.peek().count() <= MAX_AHEAD);
            let lookups = queue.take_lookups();
            assert!(lookups <= MAX_LOOKUPS, "{lookups}");
            total += lookups;
        }
        assert!((images / 2..=images).contains(&(total as u64)), "{total}");
    }
}
