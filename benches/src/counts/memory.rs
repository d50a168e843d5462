//! The product's allocator, and how often it is asked and for how much. Must never allocate by itself.
//!
//! Bytes are those that were asked for: what an allocator adds to them depends on the machine.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};

use mimalloc::MiMalloc;

struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Only one thread allocates: a load and a store are enough, and take as many instructions on each machine.
fn add(to: &AtomicU64, number: u64) {
    to.store(to.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}

// SAFETY: every call goes to mimalloc as it is; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(&CALLS, 1);
        add(&BYTES, layout.size() as u64);
        // SAFETY: the caller's promises are those that `MiMalloc` asks for.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(&CALLS, 1);
        add(&BYTES, layout.size() as u64);
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(&BYTES, (layout.size() as u64).wrapping_neg());
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(&CALLS, 1);
        add(&BYTES, (size as u64).wrapping_sub(layout.size() as u64));
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(at, layout, size) }
    }
}

/// How often memory was asked for, enlarging included.
pub(crate) fn allocations() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// How many bytes are in use.
pub(crate) fn bytes() -> u64 {
    BYTES.load(Ordering::Relaxed)
}
