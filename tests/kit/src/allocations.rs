//! An allocator that counts, for tests of memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

thread_local! {
    /// Bytes that this thread allocated minus bytes that it freed; wraps when it frees memory of another thread.
    static OF_THREAD: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, and counts. A test makes it the allocator of its process, which runs no other test:
///
/// ```
/// #[global_allocator]
/// static MEMORY: jtp_kit::Allocations = jtp_kit::Allocations::new();
///
/// let before = MEMORY.live();
/// let bytes = vec![0; 1000];
/// assert!(MEMORY.live() >= before + 1000);
/// # drop(bytes);
/// ```
#[derive(Debug)]
pub struct Allocations {
    /// The size of the block that holds this number of bytes.
    block: fn(usize) -> usize,
    live: AtomicUsize,
    peak: AtomicUsize,
    count: AtomicUsize,
    total: AtomicUsize,
}

impl Allocations {
    /// Counts bytes as requested.
    #[must_use]
    pub const fn new() -> Allocations {
        Allocations::with_blocks(|size| size)
    }

    /// Counts bytes as glibc's allocator uses them.
    #[must_use]
    pub const fn of_glibc() -> Allocations {
        Allocations::with_blocks(|size| (size + 8).next_multiple_of(16).max(32))
    }

    const fn with_blocks(block: fn(usize) -> usize) -> Allocations {
        Allocations {
            block,
            live: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            total: AtomicUsize::new(0),
        }
    }

    /// The bytes that are allocated.
    pub fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    /// Their maximum since [`reset_peak`](Self::reset_peak).
    pub fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }

    /// Sets the maximum to what is allocated now, and returns that.
    pub fn reset_peak(&self) -> usize {
        let live = self.live();
        self.peak.store(live, Relaxed);
        live
    }

    /// The number of allocations since the process began.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// The bytes of all allocations since the process began.
    pub fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    /// The bytes that the calling thread allocated minus those that it freed.
    pub fn of_thread(&self) -> usize {
        OF_THREAD.get()
    }

    fn add(&self, size: usize) {
        let size = (self.block)(size);
        let live = self.live.fetch_add(size, Relaxed) + size;
        self.peak.fetch_max(live, Relaxed);
        self.total.fetch_add(size, Relaxed);
        OF_THREAD.set(OF_THREAD.get().wrapping_add(size));
    }

    fn remove(&self, size: usize) {
        let size = (self.block)(size);
        self.live.fetch_sub(size, Relaxed);
        OF_THREAD.set(OF_THREAD.get().wrapping_sub(size));
    }
}

impl Default for Allocations {
    fn default() -> Allocations {
        Allocations::new()
    }
}

// SAFETY: each call is forwarded to the system's allocator.
unsafe impl GlobalAlloc for Allocations {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count.fetch_add(1, Relaxed);
        self.add(layout.size());
        // SAFETY: the caller keeps the contract of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.remove(layout.size());
        // SAFETY: the caller keeps the contract of this function.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old allocation may exist until its bytes are copied.
        self.add(size);
        self.remove(layout.size());
        // SAFETY: the caller keeps the contract of this function.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
