//! The system's allocator, counting for each thread what is asked of it.
//!
//! Unsafe by need: a global allocator can't be written otherwise. Each call goes to [`System`] as it came.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts, and allocates as [`System`].
#[derive(Debug)]
pub(crate) struct Counting;

/// What work may ask of the allocator, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    /// At once.
    pub(crate) single: usize,
    /// In all, less what was freed.
    pub(crate) live: usize,
}

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn allocated(bytes: usize) {
    let live = LIVE.get().wrapping_add(bytes);
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
    LARGEST.set(LARGEST.get().max(bytes));
}

fn freed(bytes: usize) {
    // what another thread allocated is not counted here
    LIVE.set(LIVE.get().saturating_sub(bytes));
}

// SAFETY: every method hands its arguments to `System`, which keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        freed(layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // both are there while one is copied into the other
        allocated(bytes);
        freed(layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

/// Does work of this thread; an error when it asks for more than the bound.
pub(crate) fn within<T>(bound: Bound, work: impl FnOnce() -> T) -> Result<T, String> {
    let before = LIVE.get();
    PEAK.set(before);
    LARGEST.set(0);
    let done = work();
    let (single, live) = (LARGEST.get(), PEAK.get().saturating_sub(before));
    if single > bound.single {
        return Err(format!(
            "one allocation of {single} bytes, over {}",
            bound.single
        ));
    }
    if live > bound.live {
        return Err(format!("{live} bytes in use, over {}", bound.live));
    }
    Ok(done)
}
