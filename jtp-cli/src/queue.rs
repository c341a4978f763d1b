//! The queue of images to fetch, shared by several connections.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use jtp_core::ImageId;

/// Minimum size of a request, unless the queue runs out: smaller ones are not worth a round trip.
const MIN_BYTES: u64 = 64 * 1024;

/// Maximum number of images in one GET_BY_ID.
pub const MAX_IMAGES: usize = 255;

/// The images to fetch over a number of connections. Each connection takes a share that shrinks with the queue, so that
/// all connections finish at about the same time.
#[derive(Debug)]
pub struct DownloadQueue {
    pending: Mutex<Pending>,
    connections: usize,
}

#[derive(Debug)]
struct Pending {
    images: VecDeque<(ImageId, u32)>,
    bytes: u64,
}

impl DownloadQueue {
    /// Creates a queue of images with their sizes, for a number of connections.
    pub fn new(
        images: impl IntoIterator<Item = (ImageId, u32)>,
        connections: usize,
    ) -> DownloadQueue {
        let images: VecDeque<_> = images.into_iter().collect();
        let bytes = images.iter().map(|(_, size)| u64::from(*size)).sum();
        DownloadQueue {
            pending: Mutex::new(Pending { images, bytes }),
            connections: connections.max(1),
        }
    }

    /// The number of connections that share the queue.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Takes the next share of images; none if the queue is empty. A single connection gets all of them.
    pub fn take(&self) -> Vec<ImageId> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let Pending { images, bytes } = &mut *pending;
        if self.connections == 1 {
            *bytes = 0;
            return images.drain(..).map(|(id, _)| id).collect();
        }
        let max_images = images.len().div_ceil(self.connections).min(MAX_IMAGES);
        let share =
            u64::try_from(self.connections).map_or(0, |connections| *bytes / connections / 2);
        let share = share.max(MIN_BYTES);
        let mut taken = Vec::with_capacity(max_images);
        let mut size = 0;
        while let Some(&(id, next)) = images.front() {
            let next = u64::from(next);
            if taken.len() == max_images || (!taken.is_empty() && size + next > share) {
                break;
            }
            images.pop_front();
            *bytes = bytes.saturating_sub(next);
            size += next;
            taken.push(id);
        }
        taken
    }

    /// Puts back images that were taken and not fetched. Their sizes are no longer counted.
    pub fn put_back(&self, ids: impl IntoIterator<Item = ImageId>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.images.extend(ids.into_iter().map(|id| (id, 0)));
    }

    /// Whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .images
            .is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sizes: &[u32], connections: usize) -> Vec<usize> {
        let queue = DownloadQueue::new((0..).map(ImageId).zip(sizes.iter().copied()), connections);
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
    fn images_are_shared_by_bytes_and_by_count() {
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
    fn images_put_back_are_taken_again() {
        let queue = DownloadQueue::new([(ImageId(1), 5), (ImageId(2), 5)], 2);
        assert_eq!(queue.take(), [ImageId(1)]);
        queue.put_back([ImageId(1)]);
        assert_eq!(queue.take(), [ImageId(2)]);
        assert_eq!(queue.take(), [ImageId(1)]);
    }
}
