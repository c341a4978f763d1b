//! The images to fetch, shared by several connections.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use jtp_core::ImageId;

/// No request is made smaller than this for the sake of an even share: it would not be worth its round trip.
const LEAST_BYTES: u64 = 64 * 1024;

/// The most images of one GET_BY_ID.
const MOST_IMAGES: usize = 255;

/// Work for a number of connections. Each takes a part of what is left, a smaller one the less is left, so that
/// all end at about the same time whatever the sizes and the speeds.
#[derive(Debug)]
pub struct Queue {
    left: Mutex<Left>,
    workers: usize,
}

#[derive(Debug)]
struct Left {
    images: VecDeque<(ImageId, u32)>,
    bytes: u64,
}

impl Queue {
    /// A queue of images and their sizes, for so many connections.
    pub fn new(images: impl IntoIterator<Item = (ImageId, u32)>, workers: usize) -> Queue {
        let images: VecDeque<_> = images.into_iter().collect();
        let bytes = images.iter().map(|(_, size)| u64::from(*size)).sum();
        Queue {
            left: Mutex::new(Left { images, bytes }),
            workers: workers.max(1),
        }
    }

    /// For how many connections it is.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.workers
    }

    /// The next images for one connection; none if all are taken. A single connection gets them all.
    pub fn take(&self) -> Vec<ImageId> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Left { images, bytes } = &mut *left;
        if self.workers == 1 {
            *bytes = 0;
            return images.drain(..).map(|(id, _)| id).collect();
        }
        let most = images.len().div_ceil(self.workers).min(MOST_IMAGES);
        let share = u64::try_from(self.workers).map_or(0, |workers| *bytes / workers / 2);
        let share = share.max(LEAST_BYTES);
        let mut taken = Vec::with_capacity(most);
        let mut size = 0;
        while let Some(&(id, next)) = images.front() {
            let next = u64::from(next);
            if taken.len() == most || (!taken.is_empty() && size + next > share) {
                break;
            }
            images.pop_front();
            *bytes = bytes.saturating_sub(next);
            size += next;
            taken.push(id);
        }
        taken
    }

    /// Puts images back that were taken but not fetched; their sizes do not matter any more.
    pub fn give_back(&self, ids: impl IntoIterator<Item = ImageId>) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.images.extend(ids.into_iter().map(|id| (id, 0)));
    }

    /// Whether nothing is left to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .images
            .is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sizes: &[u32], workers: usize) -> Vec<usize> {
        let queue = Queue::new((0..).map(ImageId).zip(sizes.iter().copied()), workers);
        let mut next = 0;
        let mut shares = Vec::new();
        loop {
            let taken = queue.take();
            if taken.is_empty() {
                assert!(queue.is_empty());
                assert_eq!(usize::try_from(next), Ok(sizes.len()));
                return shares;
            }
            for id in &taken {
                assert_eq!(*id, ImageId(next), "in order, each once");
                next += 1;
            }
            shares.push(taken.len());
        }
    }

    #[test]
    fn the_work_is_shared_by_bytes_and_by_count() {
        assert_eq!(shares(&[1000; 12], 1), [12]);
        assert_eq!(shares(&[1000; 12], 4), [3, 3, 2, 1, 1, 1, 1]);
        assert!(shares(&[10; 100_000], 4).iter().all(|share| *share <= 255));
        let mib = 1 << 20;
        assert_eq!(shares(&[100 * mib, mib, mib, mib, mib], 2), [1, 1, 1, 1, 1]);
        assert_eq!(shares(&[u32::MAX; 3], 2), [1, 1, 1]);
        assert_eq!(shares(&[], 3), [0; 0]);
        assert_eq!(shares(&[0, 0], 8), [1, 1]);
    }

    #[test]
    fn what_is_given_back_is_taken_again() {
        let queue = Queue::new([(ImageId(1), 5), (ImageId(2), 5)], 2);
        assert_eq!(queue.take(), [ImageId(1)]);
        queue.give_back([ImageId(1)]);
        assert_eq!(queue.take(), [ImageId(2)]);
        assert_eq!(queue.take(), [ImageId(1)]);
    }
}
