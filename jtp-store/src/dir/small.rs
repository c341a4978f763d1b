//! Small images in memory. To open and check their files costs more than to read the bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use jtp_core::{Image, ImageId};

use crate::fingerprint::Fingerprint;

/// The approximate memory of an image in addition to its bytes.
const OVERHEAD: usize = 176;

/// When the memory is full, one of this many new images replaces an old one. Most clients request all images in
/// the same order: if each image were kept, all would be evicted before they are requested again.
const KEEP_ONE_OF: u32 = 16;

/// The bytes of images that were sent lately, raw or compressed. They were verified when they were read. // S13
#[derive(Debug)]
pub(super) struct SmallImages {
    /// The most bytes, [`OVERHEAD`] included.
    capacity: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    images: HashMap<(ImageId, bool), Small>,
    /// Second-chance order: an image that was used moves to the back once instead of being evicted.
    order: VecDeque<(ImageId, bool)>,
    bytes: usize,
    /// Counts the images that found no room, modulo [`KEEP_ONE_OF`].
    skipped: u32,
}

#[derive(Debug)]
struct Small {
    bytes: Bytes,
    /// The file that they were read from. Another file with the same ID may have other bytes. // S4
    source: Fingerprint,
    used: bool,
}

impl SmallImages {
    /// The longest image that is kept.
    pub(super) const MAX_LENGTH: usize = 16 * 1024;

    pub(super) fn new(capacity: u64) -> SmallImages {
        SmallImages {
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
            kept: Mutex::default(),
        }
    }

    /// Whether images of that length are kept.
    fn accepts(&self, length: usize) -> bool {
        length <= Self::MAX_LENGTH && length + OVERHEAD <= self.capacity
    }

    /// Whether an image of that length is kept.
    pub(super) fn keeps(&self, image: &Image) -> bool {
        usize::try_from(image.length).is_ok_and(|length| self.accepts(length))
    }

    pub(super) fn get(&self, image: &Image, source: &Fingerprint) -> Option<Bytes> {
        if !self.keeps(image) {
            return None;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let small = kept.images.get_mut(&key(image))?;
        let same = u32::try_from(small.bytes.len()) == Ok(image.length) && small.source == *source;
        small.used |= same;
        same.then(|| small.bytes.clone())
    }

    /// Keeps the verified bytes of an image, if it is small enough.
    pub(super) fn put(
        &self,
        id: ImageId,
        is_compressed: bool,
        source: &Fingerprint,
        bytes: &Bytes,
    ) {
        if !self.accepts(bytes.len()) {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        if kept.bytes + bytes.len() + OVERHEAD > self.capacity {
            kept.skipped = (kept.skipped + 1) % KEEP_ONE_OF;
            if kept.skipped != 0 {
                return;
            }
        }
        let key = (id, is_compressed);
        let small = Small {
            bytes: bytes.clone(),
            source: *source,
            used: false,
        };
        kept.bytes += bytes.len() + OVERHEAD;
        match kept.images.insert(key, small) {
            Some(old) => kept.bytes -= old.bytes.len() + OVERHEAD,
            None => kept.order.push_back(key),
        }
        while kept.bytes > self.capacity {
            let Some(oldest) = kept.order.pop_front() else {
                return;
            };
            match kept.images.get_mut(&oldest) {
                Some(small) if small.used => {
                    small.used = false;
                    kept.order.push_back(oldest);
                }
                _ => {
                    let old = kept.images.remove(&oldest);
                    kept.bytes -= old.map_or(0, |old| old.bytes.len() + OVERHEAD);
                }
            }
        }
    }
}

fn key(image: &Image) -> (ImageId, bool) {
    (image.id, image.flags.is_compressed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jtp_core::{FileType, Flags};

    fn image(n: u64, length: u32) -> Image {
        Image::new(ImageId(n), Flags::new(FileType::Bmp, false), length)
    }

    #[test]
    fn part_of_the_images_stays_within_the_capacity_when_all_are_read_in_turn() {
        let small = SmallImages::new(100_000);
        let mut found = 0;
        for _ in 0..20 {
            for n in 0..1000 {
                match small.get(&image(n, 500), &Fingerprint::sample(2)) {
                    Some(bytes) => found += usize::from(bytes.len() == 500),
                    None => small.put(
                        ImageId(n),
                        false,
                        &Fingerprint::sample(2),
                        &Bytes::from_static(&[1; 500]),
                    ),
                }
                assert!(small.kept.lock().unwrap().bytes <= 100_000);
            }
        }
        // There is room for 147 of 1000 images; the first round finds none.
        assert!(found > 1500, "{found}");
        assert_consistent(&small);
    }

    fn assert_consistent(small: &SmallImages) {
        let kept = small.kept.lock().unwrap();
        assert_eq!(kept.order.len(), kept.images.len());
        let bytes = kept.images.values().map(|s| s.bytes.len() + OVERHEAD);
        assert_eq!(kept.bytes, bytes.sum());
    }

    #[test]
    fn one_of_sixteen_new_images_replaces_the_oldest_that_was_not_used() {
        let source = Fingerprint::sample(2);
        let small = SmallImages::new(2 * (100 + OVERHEAD as u64));
        let put = |n, length| small.put(ImageId(n), false, &source, &vec![1; length].into());
        let found = |n| small.get(&image(n, 100), &source).is_some();
        put(1, 50);
        // Another file of this ID.
        put(1, 100);
        put(2, 100);
        assert_consistent(&small);
        assert!(found(1), "both fit exactly");
        (3..18).for_each(|n| put(n, 100));
        assert_eq!(small.kept.lock().unwrap().images.len(), 2);
        assert!(!(3..18).any(found));
        put(18, 100);
        assert_consistent(&small);
        assert_eq!([1, 2, 18].map(found), [true, false, true]);
    }

    #[test]
    fn an_image_is_found_only_by_its_variant_length_and_source() {
        let small = SmallImages::new(1 << 20);
        small.put(
            ImageId(1),
            false,
            &Fingerprint::sample(2),
            &Bytes::from_static(b"raw"),
        );
        assert_eq!(
            small.get(&image(1, 3), &Fingerprint::sample(2)).as_deref(),
            Some(&b"raw"[..])
        );
        assert_eq!(small.get(&image(1, 4), &Fingerprint::sample(2)), None);
        let other = Fingerprint::sample(9);
        assert_eq!(small.get(&image(1, 3), &other), None, "S4");
        let compressed = Image::new(ImageId(1), Flags::new(FileType::Bmp, true), 3);
        assert_eq!(small.get(&compressed, &Fingerprint::sample(2)), None);
        small.put(
            ImageId(2),
            false,
            &Fingerprint::sample(2),
            &Bytes::from_static(&[0; SmallImages::MAX_LENGTH + 1]),
        );
        assert_eq!(small.get(&image(2, 16_385), &Fingerprint::sample(2)), None);
        let none = SmallImages::new(0);
        none.put(ImageId(1), false, &Fingerprint::sample(2), &Bytes::new());
        assert_eq!(none.get(&image(1, 0), &Fingerprint::sample(2)), None);
    }
}
