//! The system's allocator, which also counts what each thread allocates.
//!
//! A global allocator can only be written with unsafe code. Each call is passed to [`System`] unchanged.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts allocations, and allocates with [`System`].
#[derive(Debug)]
pub(crate) struct Counting;

/// How many bytes some work may allocate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    /// In one allocation.
    pub(crate) single: usize,
    /// In total, less the bytes that were freed.
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
    // bytes that another thread allocated aren't counted here
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
        // both exist while one is copied into the other
        allocated(bytes);
        freed(layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

/// Runs some work on this thread; returns an error if it allocates more than the bound.
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
