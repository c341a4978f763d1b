//! Small images in memory: what an opening and two looks at a file cost is more than their bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use jtp_core::{Image, ImageId};

use crate::fingerprint::Fingerprint;

/// The longest image that is kept.
const SMALL: usize = 16 * 1024;

/// What an image takes beside its bytes, roughly.
const OVERHEAD: usize = 176;

/// When there is no room, one of so many images is taken in for another. All clients ask for all images in one
/// order: taken in each time, none would stay long enough to be asked for again.
const ONE_OF: u32 = 16;

/// Bytes that travelled lately, raw or compressed; each was proved to be its image's when it was read. // S13
#[derive(Debug)]
pub(super) struct SmallImages {
    room: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    images: HashMap<(ImageId, bool), Small>,
    /// In the order of coming, those that are used moved back.
    order: VecDeque<(ImageId, bool)>,
    bytes: usize,
    refused: u32,
}

#[derive(Debug)]
struct Small {
    bytes: Arc<[u8]>,
    /// The file that they are from: another one of the same ID may have other bytes. // S4
    source: Fingerprint,
    used: bool,
}

impl SmallImages {
    pub(super) fn new(room: u64) -> SmallImages {
        SmallImages {
            room: usize::try_from(room).unwrap_or(usize::MAX),
            kept: Mutex::default(),
        }
    }

    /// Whether an image of that length is kept if it comes.
    pub(super) fn wants(&self, length: usize) -> bool {
        length <= SMALL && length + OVERHEAD <= self.room
    }

    pub(super) fn get(&self, image: &Image, source: &Fingerprint) -> Option<Arc<[u8]>> {
        if !usize::try_from(image.length).is_ok_and(|length| self.wants(length)) {
            return None;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let small = kept.images.get_mut(&key(image))?;
        let same = u32::try_from(small.bytes.len()) == Ok(image.length) && small.source == *source;
        small.used |= same;
        same.then(|| Arc::clone(&small.bytes))
    }

    /// Keeps the bytes of an image.
    pub(super) fn put(&self, id: ImageId, is_compressed: bool, source: &Fingerprint, bytes: &[u8]) {
        if !self.wants(bytes.len()) {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        if kept.bytes + bytes.len() + OVERHEAD > self.room {
            kept.refused = (kept.refused + 1) % ONE_OF;
            if kept.refused != 0 {
                return;
            }
        }
        let key = (id, is_compressed);
        let small = Small {
            bytes: Arc::from(bytes),
            source: *source,
            used: false,
        };
        kept.bytes += bytes.len() + OVERHEAD;
        match kept.images.insert(key, small) {
            Some(old) => kept.bytes -= old.bytes.len() + OVERHEAD,
            None => kept.order.push_back(key),
        }
        while kept.bytes > self.room {
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

    const SOURCE: Fingerprint = Fingerprint {
        device: 1,
        inode: 2,
        size: 3,
        modified: 4,
        changed: 5,
    };

    #[test]
    fn it_keeps_within_its_room_and_part_of_what_is_asked_for_in_turn() {
        let small = SmallImages::new(100_000);
        let mut found = 0;
        for _ in 0..20 {
            for n in 0..1000 {
                match small.get(&image(n, 500), &SOURCE) {
                    Some(bytes) => found += usize::from(bytes.len() == 500),
                    None => small.put(ImageId(n), false, &SOURCE, &[1; 500]),
                }
                assert!(small.kept.lock().unwrap().bytes <= 100_000);
            }
        }
        // Room for 147 of 1000; the first round finds none.
        assert!(found > 1500, "{found}");
        let kept = small.kept.lock().unwrap();
        assert_eq!(kept.order.len(), kept.images.len());
    }

    #[test]
    fn it_gives_an_image_in_the_form_that_was_put_in() {
        let small = SmallImages::new(1 << 20);
        small.put(ImageId(1), false, &SOURCE, b"raw");
        assert_eq!(
            small.get(&image(1, 3), &SOURCE).as_deref(),
            Some(&b"raw"[..])
        );
        assert_eq!(small.get(&image(1, 4), &SOURCE), None);
        let other = Fingerprint { inode: 9, ..SOURCE };
        assert_eq!(small.get(&image(1, 3), &other), None, "S4");
        let compressed = Image::new(ImageId(1), Flags::new(FileType::Bmp, true), 3);
        assert_eq!(small.get(&compressed, &SOURCE), None);
        small.put(ImageId(2), false, &SOURCE, &[0; SMALL + 1]);
        assert_eq!(small.get(&image(2, 16_385), &SOURCE), None);
        let none = SmallImages::new(0);
        none.put(ImageId(1), false, &SOURCE, b"");
        assert_eq!(none.get(&image(1, 0), &SOURCE), None);
    }
}
